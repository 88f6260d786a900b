"""What a file really holds: its codec and picture, how long it lasts by its last packets, whether it is whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame

from videomoments_dagster.errors import MediaDamaged
from videomoments_dagster.media.native.orientation import Orientation, orientation_of
from videomoments_dagster.media.native.source import Source, container_name, open_source

_TAIL_SECONDS = 10.0
_TRUNCATED_SECONDS = 1.0  # a declared end this much later than the last packet, and 2 % of the length


@dataclass(frozen=True)
class Ends:
    """The ends of the streams on the clock, seconds; `audio` is None without an audio stream or packet."""

    video: float
    audio: float | None

    @property
    def last(self) -> float:
        return max(self.video, self.audio or 0.0)


def probe(path: str) -> dict[str, Any]:
    """The fields of MediaInfo. Raises NotAVideo or MediaDamaged."""
    file = Path(path)
    with open_source(file, threads=False) as source:
        turn, width, height = shown_picture(source)
        ends = measure_ends(source)
        _check_whole(source, ends)
        _check_tail_decodes(source, ends)
        extension = container_name(file) or source.container.format.name.split(",")[0]
        return {
            "container": extension,
            "extension": extension,
            "duration_seconds": ends.last,
            "size_bytes": file.stat().st_size,
            "video_codec": source.video.codec_context.codec.canonical_name,
            "audio_codec": source.audio.codec_context.codec.canonical_name if source.audio else None,
            "width": width,
            "height": height,
            "rotation_degrees": turn.degrees,
            "frame_rate": source.frame_rate,
            "start_time_seconds": float(source.zero),
        }


def shown_picture(source: Source) -> tuple[Orientation, int, int]:
    """The orientation, and width and height when upright, of the next frame. Raises MediaDamaged when none decodes."""
    frame = first_frame(source)
    if frame is None:
        raise MediaDamaged(f"No frame of {source.name} can be decoded.")
    turn = orientation_of(frame)
    return (turn, frame.height, frame.width) if turn.transposed else (turn, frame.width, frame.height)


def first_frame(source: Source) -> VideoFrame | None:
    """The next frame that decodes from here on, or None."""
    for packet in source.packets(source.video):
        try:
            for frame in source.video.decode(packet):
                return frame
        except FFmpegError:
            continue
    try:
        return next(iter(source.video.decode(None)), None)
    except FFmpegError:
        return None


def measure_ends(source: Source) -> Ends:
    """Where video and audio end, from the last packets: reads the tail where the container can seek, else all."""
    declared = source.container.duration
    if declared and declared / 1e6 > 3 * _TAIL_SECONDS:
        source.seek(declared / 1e6 - _TAIL_SECONDS)
        video, audio = _ends_from_here(source)
        if video is not None and (audio is not None or source.audio is None):
            return Ends(video, audio)
    source.rewind()
    video, audio = _ends_from_here(source)
    if video is None:
        raise MediaDamaged(f"{source.name} holds no picture with a time.")
    return Ends(video, audio)


def _ends_from_here(source: Source) -> tuple[float | None, float | None]:
    ends: dict[int, float] = {}
    for packet in source.packets():
        times = source.seconds_of(packet)
        if times is not None and not packet.is_discard:
            ends[packet.stream_index] = max(ends.get(packet.stream_index, 0.0), times[1])
    return ends.get(source.video.index), ends.get(source.audio.index) if source.audio else None


def _check_whole(source: Source, ends: Ends) -> None:
    """A container that knows its length, and whose packets end earlier, has been cut off."""
    video = source.video
    if "mov" in source.container.format.name:
        # The sample table of an unfragmented file is exact; fragmented ones have none (frames is 0).
        declared = float(video.duration * video.time_base) if video.frames and video.duration and video.time_base else 0
        reached = ends.video
        if video.start_time is not None and video.time_base is not None:
            declared += source.clock(video.start_time, video.time_base)
    else:
        moving = [s for s in source.container.streams if not s.disposition & Disposition.attached_pic]
        others = len(moving) > len(source.streams)  # a subtitle may end later than the picture
        declared = 0 if others else (source.container.duration or 0) / 1e6
        reached = ends.last
    if declared - reached > max(_TRUNCATED_SECONDS, 0.02 * declared):
        raise MediaDamaged(f"{source.name} ends after {reached:.1f} s of {declared:.1f} s: it is truncated.")


def _check_tail_decodes(source: Source, ends: Ends) -> None:
    for back in (1.0, _TAIL_SECONDS, ends.video):  # MPEG-TS may be sought into the middle of a group
        source.seek(ends.video - back)
        if first_frame(source) is not None:
            return
    raise MediaDamaged(f"The last frames of {source.name} can't be decoded.")
