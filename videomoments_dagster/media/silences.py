"""Where a WAV is silent, by its energy against the noise floor around. Streams the file; no native decoder."""

import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videomoments_dagster.errors import MediaDamaged

_FRAME_SECONDS = 0.01
_BLOCK_SECONDS = 30.0  # the floor follows the room: it is taken anew for every block, and interpolated between
_QUIETEST_DB = -80.0  # dithering and digital silence: says nothing of the room's noise
_SURELY_SILENT_DB = -60.0
_FLOOR_PERCENTILE, _SPEECH_PERCENTILE = 10, 90
_ABOVE_FLOOR = 0.3  # of the distance from floor to speech
_MOST_ABOVE_FLOOR_DB = 12.0
_FLAT_DB = 9.0  # a block with less contrast holds either speech or noise, not both
_SHORTEST_SOUND_FRAMES = 3  # a click does not end a silence


def find_silences(path: Path, minimum_seconds: float = 0.25) -> list[tuple[int, int]]:
    """Silences of at least `minimum_seconds` as (start, end) in milliseconds, ascending.

    `path` is a 16-bit mono WAV. Raises MediaDamaged when it is none.
    """
    levels = _levels(path)
    if not levels.size:
        return []
    quiet = _close_clicks(levels < _thresholds(levels))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], quiet, [False])).astype(np.int8)))
    step = round(_FRAME_SECONDS * 1000)
    return [
        (int(start) * step, int(end) * step)
        for start, end in edges.reshape(-1, 2)
        if (end - start) * _FRAME_SECONDS >= minimum_seconds
    ]


def _levels(path: Path) -> NDArray[np.float32]:
    """Level of each 10 ms in dB of full scale: 4 bytes a frame, 1.4 MB an hour."""
    parts: list[NDArray[np.float32]] = []
    try:
        with wave.open(str(path), "rb") as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise MediaDamaged(f"{path.name} is not 16-bit mono.", hint="Materialize the audio again.")
            frame = round(file.getframerate() * _FRAME_SECONDS)
            while chunk := file.readframes(frame * 6000):
                samples = np.frombuffer(chunk, dtype="<i2").astype(np.float32)
                whole = samples[: samples.size // frame * frame].reshape(-1, frame)
                power = np.mean(np.square(whole), axis=1) / 32768.0**2
                parts.append(np.maximum(10 * np.log10(np.maximum(power, 1e-12)), _QUIETEST_DB).astype(np.float32))
    except (wave.Error, EOFError) as error:
        raise MediaDamaged(f"{path.name} can't be read: {error}.", hint="Materialize the audio again.") from None
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _thresholds(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The level below which each frame counts as silent."""
    block = round(_BLOCK_SECONDS / _FRAME_SECONDS)
    centres, values, start = [], [], 0
    for part in np.array_split(levels, max(1, round(levels.size / block))):
        centres.append(start + part.size / 2)
        values.append(_threshold(part[part > _QUIETEST_DB + 3.0]))
        start += part.size
    return np.interp(np.arange(levels.size), centres, values).astype(np.float32)


def _threshold(sounding: NDArray[np.float32]) -> float:
    if not sounding.size:
        return _SURELY_SILENT_DB
    floor, speech = np.percentile(sounding, [_FLOOR_PERCENTILE, _SPEECH_PERCENTILE])
    if speech - floor < _FLAT_DB:
        return _SURELY_SILENT_DB
    return max(_SURELY_SILENT_DB, float(floor + min(_MOST_ABOVE_FLOOR_DB, _ABOVE_FLOOR * (speech - floor))))


def _close_clicks(quiet: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edges = np.flatnonzero(np.diff(quiet.astype(np.int8))) + 1
    closed = quiet.copy()
    for start, end in pairwise(edges):
        if not quiet[start] and end - start < _SHORTEST_SOUND_FRAMES:
            closed[start:end] = True
    return closed
