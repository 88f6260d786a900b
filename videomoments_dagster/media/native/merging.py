"""Brings picture and sound that came in separate files, or in a transport stream, into one file that players know."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from heapq import merge as by_time
from pathlib import Path

import av
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

from videomoments_dagster.errors import NO_SPACE, MediaDamaged
from videomoments_dagster.media.native.source import best_audio, best_video, open_container
from videomoments_dagster.media.native.writing import replacing

_FORMATS = ("mp4", "matroska")  # in this order: what MP4 can't hold, Matroska does


def merge(paths: list[str], destination: str) -> None:
    """Copy the best video of the first of `paths` and the best sound of the last into `destination`, as they are coded.

    Raises NotAVideo, MediaDamaged, or DiskFull.
    """
    refusal = ""
    for name in _FORMATS:
        try:
            with replacing(Path(destination)) as temporary:
                _copy([Path(path) for path in paths], temporary, name)
            return
        except (FFmpegError, ValueError) as error:
            if isinstance(error, FFmpegError) and error.errno in NO_SPACE:
                raise
            refusal = str(getattr(error, "strerror", None) or error)
    raise MediaDamaged(f"Picture and sound can't be brought together: {refusal}.")


def _copy(paths: list[Path], temporary: Path, name: str) -> None:
    with ExitStack() as stack:
        inputs = [stack.enter_context(open_container(path)) for path in paths]
        output = stack.enter_context(av.open(f"file:{temporary}", "w", format=name))
        written: dict[tuple[int, int], Stream] = {}
        video, audio = best_video(inputs[0], paths[0]), best_audio(inputs[-1])
        for container, stream in ((inputs[0], video), (inputs[-1], audio)):
            if stream is not None:
                written[id(container), stream.index] = output.add_stream_from_template(stream)
        readers = [_packets(container, written) for container in inputs]
        for _, packet, stream in by_time(*readers, key=lambda read: read[0]):
            packet.stream = stream
            output.mux(packet)


def _packets(
    container: InputContainer, written: dict[tuple[int, int], Stream]
) -> Iterator[tuple[Fraction, Packet, Stream]]:
    """Decoding time, packet, and the stream that it goes to."""
    streams = [stream for stream in container.streams if (id(container), stream.index) in written]
    for packet in container.demux(*streams):
        if packet.size and packet.dts is not None:
            yield packet.dts * packet.time_base, packet, written[id(container), packet.stream_index]
