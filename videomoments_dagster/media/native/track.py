"""The sound of a clip: copied when browsers play it, encoded as AAC otherwise. Both end with the picture."""

from typing import Protocol

from av.audio.frame import AudioFrame
from av.container.output import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from videomoments_dagster.media.native.placing import Placer
from videomoments_dagster.media.native.range import Range
from videomoments_dagster.media.native.source import Source

_SAME_SECONDS = 0.001
_RATES = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_BIT_RATES = {"mono": 96_000, "stereo": 160_000}
_BLOCK_SAMPLES = 1024


class Track(Protocol):
    """Takes the source's audio packets in order; `finish` tells where the clip ends on the source's clock."""

    def add(self, packet: Packet, span: tuple[float, float]) -> None: ...
    def finish(self, end_seconds: float) -> None: ...


def open_track(source: Source, output: OutputContainer, reach: Range) -> Track | None:
    """The right kind of track for the source's audio, None when it has none."""
    if source.audio is None:
        return None
    context = source.audio.codec_context
    plays = context.name in {"mp3", "mp3float"} or (context.name == "aac" and context.profile in {"LC", "HE-AAC", None})
    # AVI and FLV headers of AAC may lack what MP4 needs; ADTS in MPEG-TS gets it from a filter of the muxer
    known = bool(context.extradata) or "mpegts" in source.container.format.name or context.name != "aac"
    kind = AudioCopy if plays and known and "avi" not in source.container.format.name else AudioEncode
    return kind(source, output, reach)


class AudioCopy:
    """Copies the packets that are heard in the range.

    One packet before them goes along, because a decoder needs it to give the first one at full strength. The file's
    edit list starts playing after it, so that picture and sound agree to the sample. What lies before the start is
    left out at the end: old readers count it into the length of the file.
    """

    def __init__(self, source: Source, output: OutputContainer, reach: Range) -> None:
        assert source.audio is not None  # noqa: S101  # open_track
        self._source, self._output, self._reach = source, output, reach
        self._stream = output.add_stream_from_template(source.audio)
        self._before: tuple[Packet, tuple[float, float]] | None = None
        self._late: list[tuple[Packet, float]] = []
        self._early_seconds: float | None = None

    def add(self, packet: Packet, span: tuple[float, float]) -> None:
        if span[1] <= self._reach.start_seconds + _SAME_SECONDS:
            self._before = (packet, span)
            return
        if self._early_seconds is None:
            first = span[0]
            if self._before is not None and first - self._before[1][1] < _SAME_SECONDS:
                first = self._before[1][0]
                self._write(self._before[0])
            self._early_seconds = max(0.0, self._reach.start_seconds - first)
        if span[1] <= self._reach.end_seconds - self._early_seconds:
            self._write(packet)
        else:
            self._late.append((packet, span[1]))  # in only if the picture lasts as long

    def finish(self, end_seconds: float) -> None:
        for packet, until in self._late:
            if until <= end_seconds - (self._early_seconds or 0.0) + _SAME_SECONDS:
                self._write(packet)

    def _write(self, packet: Packet) -> None:
        origin = self._source.timestamp(self._reach.start_seconds, packet.time_base)
        stamp = packet.pts if packet.pts is not None else packet.dts
        assert stamp is not None  # noqa: S101  # a packet with a span has one
        packet.pts = packet.dts = stamp - origin
        packet.stream = self._stream
        self._output.mux(packet)


class AudioEncode:
    """Decodes, mixes down to at most two channels, and encodes as AAC, exact to the sample."""

    def __init__(self, source: Source, output: OutputContainer, reach: Range) -> None:
        assert source.audio is not None  # noqa: S101  # open_track
        self._source, self._audio, self._output, self._reach = source, source.audio, output, reach
        have = source.audio.codec_context.sample_rate
        self._rate = next((rate for rate in _RATES if rate <= have), _RATES[-1])
        self._layout = "mono" if source.audio.channels == 1 else "stereo"
        self._stream = output.add_stream("aac", rate=self._rate, layout=self._layout)
        self._stream.codec_context.bit_rate = _BIT_RATES[self._layout]
        seconds = reach.end_seconds - reach.start_seconds
        self._placer = Placer(self._rate, self._layout, round(seconds * self._rate), self._buffer)
        self._samples, self._encoded = bytearray(), 0
        self._late: list[Packet] = []
        source.audio.codec_context.flush_buffers()

    def add(self, packet: Packet, span: tuple[float, float]) -> None:
        if span[1] < self._reach.start_seconds - 0.1:  # a little run-in: transforms overlap
            return
        if span[0] < self._reach.end_seconds:
            self._decode(packet)
        else:
            self._late.append(packet)

    def finish(self, end_seconds: float) -> None:
        self._placer.length = round((end_seconds - self._reach.start_seconds) * self._rate)
        for packet in (*self._late, None):
            self._decode(packet)
        self._placer.finish()
        self._drain(last=True)
        self._output.mux(self._stream.encode(None))

    def _decode(self, packet: Packet | None) -> None:
        try:
            frames = self._audio.decode(packet)
        except FFmpegError:
            return  # a damaged packet: its time passes in silence
        for frame in frames:
            seconds = self._source.frame_seconds(frame)
            self._placer.add(frame, None if seconds is None else seconds - self._reach.start_seconds)
        self._drain()

    def _buffer(self, samples: bytes) -> None:
        self._samples += samples

    def _drain(self, *, last: bool = False) -> None:
        width = 2 if self._layout == "mono" else 4
        block = _BLOCK_SAMPLES * width
        while len(self._samples) >= block or (last and self._samples):
            piece = bytes(self._samples[:block])
            del self._samples[:block]
            frame = AudioFrame("s16", self._layout, len(piece) // width)
            frame.planes[0].update(piece.ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate, frame.pts = self._rate, self._encoded
            self._encoded += frame.samples
            self._output.mux(self._stream.encode(frame))
