"""The child process of builtin_speech: runs of a WAV file in, words with times out. Loads the model once.

Started by speech.py through videomoments_dagster.processes, never imported by it: the recognizer is native code.
"""

import re
import wave
from collections.abc import Callable

from pocketsphinx import Decoder

from videomoments_dagster.processes import serve_child

_FRAME_MS = 10
_VARIANT = re.compile(r"\(\d+\)$")  # "read(2)": the second pronunciation
_FILLERS = ("<", "[")  # <s>, <sil>, [NOISE], [SPEECH]


def recognize(
    path: str, runs: list[tuple[int, int]], on_progress: Callable[[float], None]
) -> list[tuple[str, int, int]]:
    """The words in `runs` (start and end in ms) of a 16 kHz mono WAV file: text, start and end in ms of the file."""
    # -1: no limit on active states. With the default of 30000, 59 % of the words of a test recording were wrong
    # instead of 23 %, for a third less work.
    decoder = Decoder(samprate=16_000, maxhmmpf=-1, loglevel="FATAL")
    words: list[tuple[str, int, int]] = []
    total = sum(end - start for start, end in runs)
    done = 0
    with wave.open(path) as audio:
        for start, end in runs:
            audio.setpos(start * 16)
            words += _words(decoder, audio.readframes((end - start) * 16), start, end)
            done += end - start
            on_progress(done / total)
    return words


def _words(decoder: Decoder, pcm: bytes, start: int, end: int) -> list[tuple[str, int, int]]:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)  # the whole utterance at once: loudness is normalised over all of it
    decoder.end_utt()
    return [
        (
            _spelled(_VARIANT.sub("", heard.word)),
            start + heard.start_frame * _FRAME_MS,
            min(start + (heard.end_frame + 1) * _FRAME_MS, end),
        )
        for heard in decoder.seg() or ()
        if not heard.word.startswith(_FILLERS)
    ]


def _spelled(word: str) -> str:
    """The dictionary has lower case only."""
    return "I" + word[1:] if word == "i" or word.startswith("i'") else word


if __name__ == "__main__":
    serve_child({"recognize": recognize})
