"""The two clips of the clock check, made by us so that every time in them is known: speech with long silences between,
and a video of clock faces. Which times a model gives for them is judged elsewhere (calibration_fit.py).
"""

import hashlib
import json
import os
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPEECH = Path(__file__).with_name("calibration_speech.flac")
SPEECH_TEXT = SPEECH.with_suffix(".json")

_RATE_HZ = 16_000
# From the start to far past 10 minutes, where recognizers that work in chunks have drifted or started again at 0.
_PLACES_SECONDS = (3.0, 100.0, 250.0, 420.0, 620.0, 750.0, 800.0)
_SPEECH_CLIP_SECONDS = 815.0
_ROOM_TONE = 6.0  # standard deviation in 16-bit steps, about -75 dB: real rooms are never digitally silent

# A face is held for longer than the gap between two frames of a server that samples 32 of them, and in no order: a
# clock that ran on could be answered by subtraction. Times are uneven: who only counts the faces is found out.
_FACES = (
    ("17:41", 21), ("05:18", 25), ("21:36", 18), ("09:03", 11), ("14:52", 10), ("22:27", 12),
    ("06:46", 10), ("19:10", 11), ("08:34", 10), ("13:59", 14), ("04:25", 17), ("16:07", 21),
)  # fmt: skip
_FRAMES_PER_SECOND = 25  # as the clips of real videos: servers that mistake the frame rate are what is looked for
_KEYFRAME_FRAMES = 2 * _FRAMES_PER_SECOND
_WIDTH, _HEIGHT = 320, 180
_DOT = 10  # pixels; a glyph is 5 x 7 dots
_INK, _PAPER = 16, 235
_GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    ":": (0, 4, 4, 0, 4, 4, 0),
}
"""Rows from the top, the leftmost dot in bit 4."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A sentence said, or a clock face shown, in [start, end) seconds of the clip. `place`: sentences of one number
    are said together."""

    text: str
    start_seconds: float
    end_seconds: float
    place: int


@dataclass(frozen=True, slots=True)
class CalibrationClip:
    path: Path
    duration_seconds: float
    shown: tuple[Shown, ...]


def speech_clip(directory: Path) -> CalibrationClip:
    """13:35 of near silence (WAV, 16 kHz mono, 26 MB) with 14 sentences at seven places. Made once a directory."""
    passages = json.loads(SPEECH_TEXT.read_text())["passages"]
    recipe = f"{_PLACES_SECONDS} {_SPEECH_CLIP_SECONDS} {_ROOM_TONE}".encode()
    path = directory / f"speech-{_digest(SPEECH.read_bytes(), SPEECH_TEXT.read_bytes(), recipe)}.wav"
    if not path.exists():
        with _replacing(path) as temporary:
            _write_speech(temporary, passages)
    spoken = tuple(
        Shown(said["text"], round(at + said["start_time"], 4), round(at + said["end_time"], 4), place)
        for place, (at, passage) in enumerate(zip(_PLACES_SECONDS, passages, strict=True))
        for said in passage["sentences"]
    )
    return CalibrationClip(path, _SPEECH_CLIP_SECONDS, spoken)


def clock_clip(directory: Path) -> CalibrationClip:
    """Three minutes of twelve clock faces (MP4, H.264, 25 fps, no sound). Made once a directory.

    As long as the clips that refinement sends, and not longer: servers look at a fixed number of frames (32 by
    default in vLLM), so that a longer clip would be seen less sharply than what their times are used for.
    """
    ends = list(accumulate((seconds for _, seconds in _FACES), initial=0))
    faces = tuple(
        Shown(text, float(start), float(end), place)
        for place, ((text, _), (start, end)) in enumerate(zip(_FACES, pairwise(ends), strict=True))
    )
    recipe = f"{_FACES} {_GLYPHS} {_WIDTH} {_HEIGHT} {_DOT} {_FRAMES_PER_SECOND} {_KEYFRAME_FRAMES}".encode()
    path = directory / f"clock-{_digest(recipe)}.mp4"
    if not path.exists():
        with _replacing(path) as temporary:
            _write_clock(temporary, faces)
    return CalibrationClip(path, float(ends[-1]), faces)


def face(text: str) -> NDArray[np.uint8]:
    """The picture of a clock that shows `text`: rows of gray pixels, dark on light."""
    dots = np.zeros((7, 6 * len(text) - 1), bool)
    for place, sign in enumerate(text):
        for row, bits in enumerate(_GLYPHS[sign]):
            dots[row, 6 * place : 6 * place + 5] = [bits >> shift & 1 for shift in range(4, -1, -1)]
    ink = dots.repeat(_DOT, axis=0).repeat(_DOT, axis=1)
    picture = np.full((_HEIGHT, _WIDTH), _PAPER, np.uint8)
    top, left = (_HEIGHT - ink.shape[0]) // 2, (_WIDTH - ink.shape[1]) // 2
    picture[top : top + ink.shape[0], left : left + ink.shape[1]][ink] = _INK
    return picture


def stills(clip: CalibrationClip, times_ms: Sequence[int]) -> list[bytes]:
    """What `clock_clip` shows at these times, as JPEG."""
    import av

    pictures = []
    for at_ms in times_ms:
        shown = next(shown for shown in reversed(clip.shown) if shown.start_seconds * 1000 <= at_ms)
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = _WIDTH, _HEIGHT, "yuvj420p"
        encoder.time_base = Fraction(1, _FRAMES_PER_SECOND)
        frame = av.VideoFrame.from_ndarray(face(shown.text), format="gray").reformat(format="yuvj420p")
        pictures.append(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
    return pictures


def _write_speech(path: Path, passages: Sequence[dict[str, int]]) -> None:
    """A second at a time: the clip is never whole in memory."""
    speech = _speech()
    starts = [round(at * _RATE_HZ) for at in _PLACES_SECONDS]
    noise = np.random.default_rng(1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        for first in range(0, round(_SPEECH_CLIP_SECONDS * _RATE_HZ), _RATE_HZ):
            block = noise.normal(0, _ROOM_TONE, _RATE_HZ)
            for start, passage in zip(starts, passages, strict=True):
                begin, end = max(start, first), min(start + passage["samples"], first + _RATE_HZ)
                if begin < end:
                    source = passage["first_sample"] - start
                    block[begin - first : end - first] += speech[source + begin : source + end]
            file.writeframes(np.clip(block.round(), -32768, 32767).astype("<i2").tobytes())


@cache
def _speech() -> NDArray[np.int16]:
    import av

    with av.open(str(SPEECH)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def _write_clock(path: Path, faces: Sequence[Shown]) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=_FRAMES_PER_SECOND, options={"preset": "ultrafast", "crf": "24"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        stream.codec_context.gop_size = _KEYFRAME_FRAMES
        for shown in faces:
            frame = av.VideoFrame.from_ndarray(face(shown.text), format="gray").reformat(format="yuv420p")
            for number in range(
                round(shown.start_seconds * _FRAMES_PER_SECOND), round(shown.end_seconds * _FRAMES_PER_SECOND)
            ):
                frame.pts, frame.time_base = number, Fraction(1, _FRAMES_PER_SECOND)
                file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name, renamed to `path` at the end: a clip that was half made is never taken for a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
