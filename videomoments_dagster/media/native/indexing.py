"""The keyframes of a video, read from its packets without decoding any."""

from pathlib import Path
from typing import Any

from av.packet import Packet
from av.video.stream import VideoStream

from videomoments_dagster.errors import MediaDamaged
from videomoments_dagster.media.native.source import open_source

_H264_IDR, _H264_SLICES = 5, {1, 2, 5}
_COPYABLE_PIXELS = {"yuv420p", "yuvj420p"}
_COPYABLE_PROFILES = {"Baseline", "Constrained Baseline", "Main", "High", "Extended"}


def keyframe_index(path: str) -> dict[str, Any]:
    """The fields of KeyframeIndex. Raises NotAVideo or MediaDamaged."""
    with open_source(Path(path)) as source:
        times: list[float] = []
        first = last = None
        regular = True
        for packet in source.packets():
            span = source.seconds_of(packet)
            if span is None or packet.is_discard:
                continue
            last = span[1] if last is None else max(last, span[1])
            if packet.stream_index != source.video.index:
                continue
            regular = regular and packet.pts is not None
            first = span[0] if first is None else min(first, span[0])
            if packet.is_keyframe and _starts_clean(packet, source.video):
                times.append(span[0])
        if first is None or last is None:
            raise MediaDamaged(f"{source.name} holds no picture with a time.")
        return {
            "times_seconds": sorted(times),
            "first_frame_seconds": first,
            "last_packet_end_seconds": last,
            "copyable": regular and _keeps_order(source.container.format.name) and is_browser_video(source.video),
        }


def is_browser_video(stream: VideoStream) -> bool:
    """Whether browsers play the stream in MP4 as it is: 8-bit 4:2:0 H.264."""
    context = stream.codec_context
    return (
        context.name == "h264"
        and context.pix_fmt in _COPYABLE_PIXELS
        and (context.profile or "High") in _COPYABLE_PROFILES
        and bool(context.extradata)
        and stream.width % 2 == 0
        and stream.height % 2 == 0
    )


def _keeps_order(container: str) -> bool:
    """Whether the container stores presentation times; AVI stores none, so B-frames copied from it would stutter."""
    return any(name in container for name in ("mov", "matroska", "mpegts", "flv"))


def _starts_clean(packet: Packet, stream: VideoStream) -> bool:
    """Whether decoding can begin here with nothing before: an IDR picture in H.264, any keyframe elsewhere.

    MPEG-TS and open GOPs flag recovery points as keyframes too; browsers' hardware decoders refuse to start there.
    """
    if stream.codec_context.name != "h264":
        return True
    extradata = stream.codec_context.extradata or b""
    kinds = _nal_kinds_avc(bytes(packet), (extradata[4] & 3) + 1) if extradata[:1] == b"\x01" else None
    for kind in kinds if kinds is not None else _nal_kinds_annex_b(bytes(packet)):
        if kind in _H264_SLICES:
            return kind == _H264_IDR
    return False


def _nal_kinds_avc(data: bytes, length_size: int) -> list[int]:
    kinds, at = [], 0
    while at + length_size < len(data):
        size = int.from_bytes(data[at : at + length_size], "big")
        kinds.append(data[at + length_size] & 31)
        at += length_size + size
    return kinds


def _nal_kinds_annex_b(data: bytes) -> list[int]:
    kinds, at = [], data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        kinds.append(data[at + 3] & 31)
        if kinds[-1] in _H264_SLICES:
            break
        at = data.find(b"\x00\x00\x01", at + 3)
    return kinds
