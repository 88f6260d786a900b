"""The bundled talk for tests: its truth, its sound as samples, WAV files, and the word error rate against a text."""

import json
import wave
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

DIRECTORY = Path(__file__).resolve().parent.parent / "sample"
VIDEO = DIRECTORY / "talk.mp4"
TRUTH: dict[str, Any] = json.loads((DIRECTORY / "talk.json").read_text())
RATE_HZ = 16_000


@lru_cache(maxsize=1)
def talk() -> NDArray[np.int16]:
    """The talk's sound: 16 kHz mono, sample n at n / 16000 s."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    with av.open(str(VIDEO)) as file:
        frames = [piece for frame in file.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate([piece.to_ndarray()[0] for piece in [*frames, *resampler.resample(None)]])


def write_wav(path: Path, samples: NDArray[Any], rate: int = RATE_HZ, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(samples, -32768, 32767).astype("<i2").tobytes())
    return path


def word_error_rate(true: list[str], heard: list[str]) -> float:
    """Insertions, deletions and substitutions over the number of true words; upper and lower case are the same."""
    heard = [word.lower() for word in heard]
    costs = list(range(len(heard) + 1))
    for row, word in enumerate(true, 1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(heard, 1):
            best = min(costs[column] + 1, costs[column - 1] + 1, diagonal + (word != other))
            diagonal, costs[column] = costs[column], best
    return costs[-1] / len(true)
