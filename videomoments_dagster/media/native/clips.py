"""Cuts clips of one source into MP4 files, and reads back what was written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.packet import Packet

from videomoments_dagster.errors import NO_SPACE, DiskFull, MediaDamaged, VideoMomentsError
from videomoments_dagster.media.native.measuring import shown_picture
from videomoments_dagster.media.native.picture import CopyRefusedError, Picture, VideoCopy, VideoEncode
from videomoments_dagster.media.native.range import Range
from videomoments_dagster.media.native.source import Source, open_source
from videomoments_dagster.media.native.track import open_track
from videomoments_dagster.media.native.writing import failure, replacing

_INTERLEAVING_SECONDS = 2.0  # how much later in the file sound may lie than the picture it belongs to

Report = Callable[[float], None]


def cut_clips(path: str, cuts: list[dict[str, Any]], threads: int, on_progress: Report) -> list[dict[str, Any]]:
    """One dict a cut, in order: the measured fields of CutResult, or `error` `{class, message, hint}`.

    A cut is `{mode, start_seconds, end_seconds, decode_from_seconds, destination}`. Raises DiskFull, and whatever
    opening the source raises.
    """
    results: list[dict[str, Any]] = []
    with open_source(Path(path)) as source:
        for number, cut in enumerate(cuts):
            reach = Range(cut["start_seconds"], cut["end_seconds"], cut["decode_from_seconds"])
            try:
                report = _reporter(on_progress, reach, number, len(cuts))
                results.append(_cut(source, cut["mode"], reach, Path(cut["destination"]), threads, report))
            except DiskFull:
                raise
            except VideoMomentsError as error:
                results.append(failure(error))
            except FFmpegError as error:
                if error.errno in NO_SPACE:
                    raise
                what = f"{source.name} can't be cut at {reach.start_seconds:.3f} s: {error.strerror}."
                results.append(failure(MediaDamaged(what)))
            on_progress((number + 1) / len(cuts))
    return results


def _reporter(on_progress: Report, reach: Range, number: int, total: int) -> Report:
    reported = 0.0

    def report(seconds: float) -> None:
        nonlocal reported
        done = (seconds - reach.start_seconds) / (reach.end_seconds - reach.start_seconds)
        if reported + 0.05 < done < 1:
            reported = done
            on_progress((number + done) / total)

    return report


def _cut(source: Source, mode: str, reach: Range, destination: Path, threads: int, report: Report) -> dict[str, Any]:
    with replacing(destination) as temporary:
        try:
            _write(source, mode, reach, temporary, threads, report)
        except CopyRefusedError:
            mode, reach = "reencode", replace(reach, decode_from_seconds=reach.start_seconds, keyframe_known=False)
            _write(source, mode, reach, temporary, threads, report)
        return {"mode": mode, **_read_back(temporary, reach)}


def _write(source: Source, mode: str, reach: Range, temporary: Path, threads: int, report: Report) -> None:
    packets = source.packets_from(reach.decode_from_seconds)
    with av.open(f"file:{temporary}", "w", format="mp4", container_options={"movflags": "+faststart"}) as output:
        copies = mode == "copy"
        video: Picture = VideoCopy(source, output, reach) if copies else VideoEncode(source, output, reach, threads)
        audio = open_track(source, output, reach)
        early: list[tuple[Packet, tuple[float, float]]] = []  # the first write settles every stream of the file
        for packet in packets:
            span = source.seconds_of(packet)
            if packet.stream_index == source.video.index:
                if not video.done:
                    video.add(packet, span)
            elif audio is not None and span is not None:
                if video.done and span[0] >= video.end_seconds:
                    break
                early.append((packet, span))
            while audio is not None and video.ready and early:
                audio.add(*early.pop(0))
            if span is not None:
                report(span[0])
                if video.done and (audio is None or span[0] > video.end_seconds + _INTERLEAVING_SECONDS):
                    break
        video.finish()
        if audio is not None:
            for packet, span in early:
                audio.add(packet, span)
            # a picture that ended by itself stays on the screen while the sound goes on
            audio.finish(video.end_seconds if video.done else max(video.end_seconds, reach.end_seconds))


def _read_back(clip: Path, reach: Range) -> dict[str, Any]:
    """What the written file holds, on the source's clock."""
    with open_source(clip, threads=False) as written:
        _, width, height = shown_picture(written)
        duration = (written.container.duration or 0) / av.time_base
        return {
            "start_seconds": reach.start_seconds,
            "end_seconds": reach.start_seconds + duration,
            "duration_seconds": duration,
            "size_bytes": clip.stat().st_size,
            "video_codec": written.video.codec_context.codec.canonical_name,
            "audio_codec": written.audio.codec_context.codec.canonical_name if written.audio else None,
            "resolution": f"{width}x{height}",
        }
