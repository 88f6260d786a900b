"""Stills of a video as JPEG files, and the check that a JPEG decodes."""

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from statistics import pstdev
from typing import Any

import av
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from videomoments_dagster.errors import MediaDamaged, VideoMomentsError
from videomoments_dagster.media.native.orientation import Turner, orientation_of
from videomoments_dagster.media.native.source import Source, open_source
from videomoments_dagster.media.native.writing import failure, replacing

_QUANTIZER = "3"  # MJPEG's scale from 2 (best) to 31
_LOOK_AHEAD_SECONDS = 3.0
_LOOK_EVERY_SECONDS = 0.2
_BLANK_DEVIATION = 2.5  # of luma at 64x36, 0..255: a flat frame lies below, a line of text on a flat ground above
_SAME_SECONDS = 0.001
_SMALL_WIDTH, _SMALL_HEIGHT = 64, 36
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


def make_thumbnails(
    path: str, requests: list[dict[str, Any]], width: int, on_progress: Callable[[float], None]
) -> list[dict[str, Any]]:
    """One dict a request, in order: the measured fields of Thumbnail, or `error` `{class, message, hint}`.

    A request is `{at_seconds, destination}`. Raises whatever opening the source raises.
    """
    results: list[dict[str, Any]] = []
    with open_source(Path(path)) as source:
        for request in requests:
            try:
                results.append(_make(source, request["at_seconds"], Path(request["destination"]), width))
            except VideoMomentsError as error:
                results.append(failure(error))
            on_progress(len(results) / len(requests))
    return results


def image_sizes(paths: list[str]) -> list[dict[str, Any]]:
    """`{width, height}` of each JPEG, or `error`. The whole picture is decoded: a file cut short fails."""
    return [_image_size(Path(path)) for path in paths]


def _make(source: Source, at_seconds: float, destination: Path, width: int) -> dict[str, Any]:
    seconds, frame = _best_frame(source, at_seconds)
    turn = orientation_of(frame)
    pixel = source.video.sample_aspect_ratio or Fraction(1)  # anamorphic video is shown wider than it is stored
    shown_width, shown_height = frame.width * (pixel if pixel > 0 else 1), Fraction(frame.height)
    if turn.transposed:
        shown_width, shown_height = shown_height, shown_width
    wide = _even(min(width, shown_width))
    high = _even(shown_height * wide / shown_width)
    data = _encode_jpeg(frame if turn.upright else Turner(frame, turn)(frame), wide, high)
    with replacing(destination) as temporary:
        temporary.write_bytes(data)
    return {"at_seconds": seconds, "width": wide, "height": high, "size_bytes": len(data)}


def _best_frame(source: Source, at_seconds: float) -> tuple[float, VideoFrame]:
    """The frame shown at `at_seconds`; when it is blank, the first one soon after that shows something."""
    best: tuple[float, VideoFrame] | None = None
    most = -1.0
    for seconds, frame in _candidates(source, at_seconds):
        contrast = _contrast(frame)
        if contrast > most:
            best, most = (seconds, frame), contrast
        if contrast > _BLANK_DEVIATION:
            break
    if best is None:
        raise MediaDamaged(f"No frame of {source.name} at {at_seconds:.3f} s can be decoded.")
    return best


def _candidates(source: Source, at_seconds: float) -> Iterator[tuple[float, VideoFrame]]:
    """The frame shown at `at_seconds` (the first or the last of the video outside it), then a few after it."""
    shown: tuple[float, VideoFrame] | None = None
    look_at = at_seconds
    for frame in _frames(source, at_seconds):
        seconds = source.frame_seconds(frame)
        if seconds is None or seconds <= at_seconds + _SAME_SECONDS:
            shown = (at_seconds if seconds is None else seconds, frame)
            continue
        if shown is not None:
            yield shown
            shown, look_at = None, at_seconds + _LOOK_EVERY_SECONDS
        if seconds >= look_at:
            yield seconds, frame
            look_at = seconds + _LOOK_EVERY_SECONDS
        if seconds > at_seconds + _LOOK_AHEAD_SECONDS:
            return
    if shown is not None:
        yield shown


def _frames(source: Source, from_seconds: float) -> Iterator[VideoFrame]:
    video = (p for p in source.packets_from(from_seconds, lead_seconds=0.0) if p.stream_index == source.video.index)
    for packet in chain(video, (None,)):  # None: what the decoder still holds
        try:
            yield from source.video.decode(packet)
        except FFmpegError:
            continue


def _contrast(frame: VideoFrame) -> float:
    """Standard deviation of luma in a small copy, 0..127. Plain Python: numpy would cost each child its import."""
    plane = frame.reformat(_SMALL_WIDTH, _SMALL_HEIGHT, "gray").planes[0]
    rows, pitch = bytes(plane), plane.line_size
    luma = b"".join(rows[y * pitch : y * pitch + _SMALL_WIDTH] for y in range(_SMALL_HEIGHT))
    return pstdev(luma)


def _even(length: Fraction | float) -> int:
    return max(2, round(length / 2) * 2)


def _encode_jpeg(frame: VideoFrame, width: int, height: int) -> bytes:
    context = CodecContext.create("mjpeg", "w")
    assert isinstance(context, VideoCodecContext)  # noqa: S101  # mjpeg is a video codec
    context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
    context.time_base = Fraction(1, 25)
    context.options = {"qmin": _QUANTIZER, "qmax": _QUANTIZER}
    still = frame.reformat(width, height, "yuvj420p", dst_color_range=ColorRange.JPEG)
    still.pts, still.time_base = 0, context.time_base
    return b"".join(bytes(packet) for packet in (*context.encode(still), *context.encode(None)))


def _image_size(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            start = file.read(3)
            file.seek(-2, os.SEEK_END)
            whole = start == _JPEG_START and file.read() == _JPEG_END
        if whole:
            options = {"protocol_whitelist": "file", "format_whitelist": "jpeg_pipe", "codec_whitelist": "mjpeg"}
            with av.open(f"file:{path}", format="jpeg_pipe", container_options=options) as container:
                container.streams.video[0].codec_context.options = {"err_detect": "explode"}
                frame = next(container.decode(video=0))
                return {"width": frame.width, "height": frame.height}
    except (FFmpegError, OSError, StopIteration, IndexError):
        pass
    return failure(MediaDamaged(f"{path.name} is not a whole JPEG picture.", hint="Materialize thumbnails again."))
