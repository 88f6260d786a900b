"""The picture of a clip: copied packet by packet from a keyframe on, or decoded and encoded again."""

from fractions import Fraction
from typing import Protocol

from av.container.output import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from videomoments_dagster.errors import MediaDamaged
from videomoments_dagster.media.native.orientation import Turner, orientation_of
from videomoments_dagster.media.native.range import Range
from videomoments_dagster.media.native.source import Source

_SAME_SECONDS = 0.001
_ENCODER_TIME_BASE = Fraction(1, 90_000)
_KEYFRAME_SECONDS = 2.0
_QUALITY = {"preset": "veryfast", "crf": "21", "profile": "high"}


class CopyRefusedError(Exception):
    """The packets can't be copied as they are; encoding them again works."""


class Picture(Protocol):
    """Takes the source's video packets. `ready` once its stream is set up, `done` once the end is reached;
    `end_seconds` is where the picture ends."""

    ready: bool
    done: bool
    end_seconds: float

    def add(self, packet: Packet, span: tuple[float, float] | None) -> None: ...
    def finish(self) -> None: ...


class VideoCopy:
    """Copies packets from the keyframe at `reach.decode_from_seconds`, shown from `reach.start_seconds` on.

    A packet at or past the end is copied only when a later one, shown before the end, refers to it (B-frames); the
    clip then ends after it.
    """

    def __init__(self, source: Source, output: OutputContainer, reach: Range) -> None:
        self.ready, self.done = True, False
        self.end_seconds = reach.end_seconds
        self._source, self._output, self._reach = source, output, reach
        self._stream = output.add_stream_from_template(source.video)
        self._shown_until = reach.start_seconds
        self._started = False
        self._undated: list[Packet] = []  # Matroska: the first packets after a seek have no decoding time
        self._beyond: list[tuple[Packet, float]] = []

    def add(self, packet: Packet, span: tuple[float, float] | None) -> None:
        if packet.is_discard or packet.pts is None or span is None:
            if self._started:
                raise CopyRefusedError
            return
        first = not self._started
        if first:
            if not packet.is_keyframe or span[0] < self._reach.decode_from_seconds - _SAME_SECONDS:
                return
            if span[0] > self._reach.decode_from_seconds + _SAME_SECONDS:
                raise CopyRefusedError
            self._started = True
        elif span[0] < self._reach.decode_from_seconds:
            return  # leading picture of an open group: it refers to what is before the keyframe
        if packet.dts is not None and self._source.clock(packet.dts, packet.time_base) >= self.end_seconds:
            self.done = True
        elif span[0] >= self.end_seconds - _SAME_SECONDS:
            self._beyond.append((packet, span[1]))
        else:
            for held, until in self._beyond:
                self.end_seconds = max(self.end_seconds, until)
                self._write(held, until)
            self._beyond.clear()
            self._write(packet, span[1], first=first)

    def finish(self) -> None:
        if not self._started:
            raise CopyRefusedError
        if self._undated:
            self._date(self._undated[-1].pts or 0)
        self.end_seconds = self._shown_until

    def _write(self, packet: Packet, until: float, *, first: bool = False) -> None:
        self._shown_until = max(self._shown_until, until)
        origin = self._source.timestamp(self._reach.start_seconds, packet.time_base)
        assert packet.pts is not None  # noqa: S101  # checked in add
        packet.pts = 0 if first else packet.pts - origin
        if packet.dts is None:
            self._undated.append(packet)
            return
        packet.dts = min(packet.dts - origin, packet.pts)
        if self._undated:
            self._date(packet.dts)
        self._mux(packet)

    def _date(self, known: int) -> None:
        """Give the packets before decoding time `known` decoding times one frame apart."""
        assert self._undated[0].time_base is not None  # noqa: S101
        step = max(1, int(1 / (self._source.frame_rate * float(self._undated[0].time_base))))
        for back, packet in zip(range(len(self._undated), 0, -1), self._undated, strict=True):
            packet.dts = known - back * step
            self._mux(packet)
        self._undated = []

    def _mux(self, packet: Packet) -> None:
        packet.stream = self._stream
        self._output.mux(packet)


class VideoEncode:
    """Decodes and encodes as H.264 that every browser plays, upright, from exactly `reach.start_seconds` on.

    The picture shown at the start is the last frame at or before it. Variable frame rates stay as they are.
    """

    def __init__(self, source: Source, output: OutputContainer, reach: Range, threads: int) -> None:
        self.ready = self.done = False
        self.end_seconds = reach.start_seconds
        self._source, self._output, self._reach = source, output, reach
        self._stream = output.add_stream("libx264", options=dict(_QUALITY))
        self._stream.codec_context.thread_count = threads
        self._first: VideoFrame | None = None
        self._last = -1
        self._turner: Turner | None = None
        self._shape: tuple[int, int, str] | None = None
        source.video.codec_context.flush_buffers()

    def add(self, packet: Packet, span: tuple[float, float] | None) -> None:
        needless = self._reach.keyframe_known and span and span[0] < self._reach.decode_from_seconds - _SAME_SECONDS
        if self.ready or not needless:
            self._decode(packet)

    def finish(self) -> None:
        if not self.done:
            self._decode(None)
        if self._first is not None:
            self._encode(self._first, self._reach.start_seconds)
            self._first = None
        if not self.ready:
            raise MediaDamaged(
                f"No frame of {self._source.name} between {self._reach.start_seconds:.3f} s and "
                f"{self._reach.end_seconds:.3f} s can be decoded."
            )
        self._output.mux(self._stream.encode(None))

    def _decode(self, packet: Packet | None) -> None:
        try:
            frames = self._source.video.decode(packet)
        except FFmpegError:
            return  # a damaged packet: the frame before stays on the screen
        for frame in frames:
            seconds = self._source.frame_seconds(frame)
            if seconds is None or self.done:
                continue
            if seconds <= self._reach.start_seconds + _SAME_SECONDS and not self.ready:
                self._first = frame
            elif seconds >= self._reach.end_seconds - _SAME_SECONDS:
                self.done = True
            else:
                if self._first is not None:
                    self._encode(self._first, self._reach.start_seconds)
                    self._first = None
                # before its first frame a video shows that frame
                self._encode(frame, seconds if self.ready else self._reach.start_seconds)

    def _encode(self, frame: VideoFrame, seconds: float) -> None:
        stamp = round((seconds - self._reach.start_seconds) / _ENCODER_TIME_BASE)
        length = self._source.frame_length(frame)
        self.end_seconds = max(self.end_seconds, seconds + length)
        if stamp <= self._last:
            return
        self._last = stamp
        frame = self._upright(frame)
        if not self.ready:
            self._configure(frame)
        context = self._stream.codec_context
        if (frame.width, frame.height, frame.format.name) != (context.width, context.height, "yuv420p"):
            frame = frame.reformat(context.width, context.height, "yuv420p", dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = stamp, _ENCODER_TIME_BASE
        frame.duration = max(1, round(length / _ENCODER_TIME_BASE))
        frame.pict_type = 0  # the source's choice of frame types is not the encoder's
        self._output.mux(self._stream.encode(frame))

    def _upright(self, frame: VideoFrame) -> VideoFrame:
        shape = (frame.width, frame.height, frame.format.name)
        if shape != self._shape:
            turn = orientation_of(frame)
            self._turner, self._shape = None if turn.upright else Turner(frame, turn), shape
        return self._turner(frame) if self._turner else frame

    def _configure(self, frame: VideoFrame) -> None:
        context = self._stream.codec_context
        context.width, context.height = max(2, frame.width // 2 * 2), max(2, frame.height // 2 * 2)
        context.pix_fmt = "yuv420p"
        context.time_base = _ENCODER_TIME_BASE
        context.framerate = Fraction(self._source.frame_rate).limit_denominator(1001)
        context.gop_size = max(1, round(self._source.frame_rate * _KEYFRAME_SECONDS))
        context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
        context.colorspace = frame.colorspace
        self.ready = True
