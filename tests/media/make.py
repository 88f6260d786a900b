"""Draws test videos in which every picture and every sound says when it belongs, and reads them back.

The frame number is written as sixteen light and dark blocks; at every whole second there is a short tone whose pitch
tells which second. So a cut's accuracy and its synchronisation can be measured from the clip alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

_COLUMNS, _ROWS = 8, 2
_TONE_SECONDS = 0.05
_LOWEST_HERTZ, _STEP_HERTZ = 800, 150
_AUDIO_BLOCK = 1024


@dataclass(frozen=True)
class Drawing:
    """What to draw; the default is the usual web video: H.264 with B-frames, AAC, a keyframe every second."""

    seconds: float = 8.0
    fps: int = 25
    gop: int = 25
    codec: str = "libx264"
    pixels: str = "yuv420p"
    width: int = 160
    height: int = 96
    b_frames: int = 3
    audio: str | None = "aac"
    audio_rate: int = 44_100
    audio_channels: str = "mono"
    audio_from: float = 0.0
    audio_until: float | None = None
    starts_at: float = 0.0
    rotation: float | None = None
    container: str | None = None
    muxing: tuple[tuple[str, str], ...] = ()
    coding: tuple[tuple[str, str], ...] = ()
    shown: Callable[[int], bool] = lambda number: True
    blank_until: float = 0.0


def draw(path: Path, drawing: Drawing) -> Path:
    """Write the video to `path` and return it."""
    with av.open(str(path), "w", format=drawing.container, container_options=dict(drawing.muxing)) as output:
        video = output.add_stream(drawing.codec, rate=drawing.fps, options=_coding(drawing))
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = drawing.width, drawing.height, drawing.pixels
        video.codec_context.gop_size = drawing.gop
        video.codec_context.time_base = Fraction(1, 90_000 if drawing.codec != "mpeg4" else drawing.fps)
        if drawing.rotation is not None:
            video.set_display_rotation(drawing.rotation)
        audio = None
        if drawing.audio:
            audio = output.add_stream(drawing.audio, rate=drawing.audio_rate, layout=drawing.audio_channels)
            assert isinstance(audio, AudioStream)
        samples = _tones(drawing)
        sent = round(drawing.audio_from * drawing.audio_rate)
        for number in range(round(drawing.seconds * drawing.fps)):
            now = number / drawing.fps
            if drawing.shown(number):
                frame = VideoFrame.from_ndarray(_picture(number, drawing), format="gray").reformat(
                    format=drawing.pixels
                )
                frame.time_base = video.codec_context.time_base
                frame.pts = round((now + drawing.starts_at) / frame.time_base)
                output.mux(video.encode(frame))
            while audio is not None and sent < len(samples) and sent / drawing.audio_rate <= now:
                piece = samples[sent : sent + _AUDIO_BLOCK]
                output.mux(audio.encode(_sound(piece, sent, drawing)))
                sent += len(piece)
        for stream in (video, audio):
            if stream is not None:
                output.mux(stream.encode(None))
    return path


def frame_numbers(path: Path) -> list[tuple[float, int]]:
    """(seconds, number drawn) of every frame of the first video stream, in order of display."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), _number(frame)) for frame in container.decode(video=0)]


def tones(path: Path) -> list[tuple[float, int]]:
    """(seconds, second named by its pitch) of every tone, by where its sound begins."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("flt", "mono", 16_000)
        samples = np.zeros(0, np.float32)
        start: float | None = None
        for frame in container.decode(stream):
            start = float(frame.time or 0) if start is None else start
            at = round((float(frame.time or 0) - start) * 16_000)
            if at > samples.size + 800:  # a gap
                samples = np.pad(samples, (0, at - samples.size))
            frame.pts = None
            samples = np.concatenate((samples, *(piece.to_ndarray()[0] for piece in resampler.resample(frame))))
    return tones_in(samples, 16_000, start or 0.0)


def tones_in(samples: NDArray[np.floating], rate: int, start: float = 0.0) -> list[tuple[float, int]]:
    """The tones in mono samples of -1..1."""
    loud = np.flatnonzero(np.abs(samples) > 0.2)
    found: list[tuple[float, int]] = []
    last = -rate
    for at in loud:
        if at - last > rate // 4:
            piece = samples[at : at + round(0.04 * rate)]
            spectrum = np.abs(np.fft.rfft(piece * np.hanning(piece.size), 8192))
            pitch = np.argmax(spectrum) * rate / 8192
            found.append((start + at / rate, round((pitch - _LOWEST_HERTZ) / _STEP_HERTZ)))
        last = at
    return found


def _coding(drawing: Drawing) -> dict[str, str]:
    if drawing.codec != "libx264":
        return dict(drawing.coding)
    fixed = {"preset": "ultrafast", "sc_threshold": "0", "bf": str(drawing.b_frames), "crf": "20"}
    return {**fixed, "keyint_min": str(drawing.gop), "b-pyramid": "normal", **dict(drawing.coding)}


def _picture(number: int, drawing: Drawing) -> NDArray[np.uint8]:
    if number / drawing.fps < drawing.blank_until:
        return np.full((drawing.height, drawing.width), 16, np.uint8)
    bits = [(number >> bit) & 1 for bit in range(_COLUMNS * _ROWS)]
    blocks = np.array(bits, np.uint8).reshape(_ROWS, _COLUMNS) * 170 + 40
    high, wide = -(-drawing.height // _ROWS), -(-drawing.width // _COLUMNS)
    return np.kron(blocks, np.ones((high, wide), np.uint8))[: drawing.height, : drawing.width]


def _number(frame: VideoFrame) -> int:
    light = frame.to_ndarray(format="gray")
    high, wide = frame.height / _ROWS, frame.width / _COLUMNS
    number = 0
    for bit in range(_COLUMNS * _ROWS):
        row, column = divmod(bit, _COLUMNS)
        number |= int(light[int((row + 0.5) * high), int((column + 0.5) * wide)] > 125) << bit
    return number


def _tones(drawing: Drawing) -> NDArray[np.float32]:
    rate = drawing.audio_rate
    until = drawing.seconds if drawing.audio_until is None else drawing.audio_until
    samples = np.zeros(round(until * rate), np.float32)
    time = np.arange(round(_TONE_SECONDS * rate)) / rate
    for second in range(int(until)):
        piece = samples[second * rate : second * rate + time.size]
        piece += 0.8 * np.sin(2 * np.pi * (_LOWEST_HERTZ + _STEP_HERTZ * second) * time)[: piece.size]
    return samples


def _sound(piece: NDArray[np.float32], sent: int, drawing: Drawing) -> AudioFrame:
    channels = 1 if drawing.audio_channels == "mono" else 2 if drawing.audio_channels == "stereo" else 6
    interleaved = np.repeat((piece * 32000).astype(np.int16), channels).reshape(1, -1)
    frame = AudioFrame.from_ndarray(interleaved, format="s16", layout=drawing.audio_channels)
    frame.sample_rate, frame.time_base = drawing.audio_rate, Fraction(1, drawing.audio_rate)
    frame.pts = sent + round(drawing.starts_at * drawing.audio_rate)
    return frame
