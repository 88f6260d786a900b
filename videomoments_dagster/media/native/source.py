"""Opening a file with FFmpeg's libraries, safely: local files, known containers and codecs only; one clock.

The clock of a video, everywhere in this platform: seconds since the earliest timestamp of its chosen video and audio
streams. It is what a player shows that starts at 0:00, whatever number the file's first timestamp is.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videomoments_dagster.errors import MediaCrashed, MediaDamaged, NotAVideo

# By the names of FFmpeg's demuxers. Playlists (hls, dash, concat, image2) open further files, so they are not here.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,flv,ogg,asf"
_VIDEO_DECODERS = (
    "h264,hevc,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,mpeg1video,mpeg2video,mpeg4,msmpeg4v2,msmpeg4,h263,flv,vp6,vp6f,"
    "theora,wmv1,wmv2,wmv3,vc1,mjpeg,prores,dnxhd,dvvideo"
)
_AUDIO_DECODERS = (
    "aac,aac_latm,mp3,mp3float,mp2,mp2float,mp1float,opus,libopus,vorbis,ac3,ac3_fixed,eac3,flac,alac,wmav1,wmav2,"
    "amrnb,amrwb,speex,libspeex,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_f32le,pcm_u8,pcm_alaw,pcm_mulaw,"
    "adpcm_ms,adpcm_ima_wav,adpcm_ima_qt"
)
_DECODERS = frozenset((_VIDEO_DECODERS + "," + _AUDIO_DECODERS).split(","))
# Tags that are not UTF-8: before its version 19 PyAV refuses the whole file unless told otherwise
_TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_LARGEST_PIXELS = 16384 * 8704  # 16K; a larger declared picture is an attack or a broken header
_SAME_SECONDS = 0.001
_BROKEN = (FFmpegError, ValueError, EOFError)


class Source:
    """An open file, its best video stream, its best audio stream, and its clock's zero in the file's timestamps."""

    def __init__(self, path: Path, *, threads: bool) -> None:
        self._path, self._threads = path, threads
        self._open()
        stamped = [s for s in self.streams if s.start_time is not None]
        self.zero = min(
            (s.start_time * _time_base(s) for s in stamped if s.start_time is not None), default=Fraction(0)
        )

    def _open(self) -> None:
        self.container = open_container(self._path)
        self.video = best_video(self.container, self._path)
        self.audio = best_audio(self.container)
        self._untouched = True
        if self._threads:
            self.video.thread_type = "AUTO"

    def close(self) -> None:
        self.container.close()

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def streams(self) -> list[VideoStream | AudioStream]:
        return [self.video, self.audio] if self.audio else [self.video]

    @property
    def frame_rate(self) -> float:
        """Frames a second; 25 when the file does not say. A rate above 300 is a time base, not a rate."""
        rates = (self.video.average_rate, self.video.guessed_rate, self.video.base_rate)
        return next((float(rate) for rate in rates if rate and 0 < rate <= 300), 25.0)

    def clock(self, timestamp: int, time_base: Fraction) -> float:
        return float(timestamp * time_base - self.zero)

    def frame_seconds(self, frame: VideoFrame | AudioFrame) -> float | None:
        """When a decoded frame begins, on the clock. AVI stores no presentation time: its decoding time serves.

        Frames that come out at the end of decoding carry no time base, so the stream's is used.
        """
        video = isinstance(frame, VideoFrame)
        stamp = frame.dts if video and "avi" in self.container.format.name else frame.pts
        stream = self.video if video else self.audio
        return None if stamp is None or stream is None else self.clock(stamp, _time_base(stream))

    def frame_length(self, frame: VideoFrame) -> float:
        """How long a decoded picture is shown, seconds."""
        return float(frame.duration * _time_base(self.video)) if frame.duration else 1 / self.frame_rate

    def timestamp(self, seconds: float, time_base: Fraction) -> int:
        """The nearest timestamp of a stream with `time_base` to `seconds` on the clock."""
        return round((Fraction(seconds) + self.zero) / time_base)

    def packets(self, *streams: VideoStream | AudioStream) -> Iterator[Packet]:
        """Packets in file order, of all chosen streams or of `streams`; ends where the file can't be read further."""
        self._untouched = False
        try:
            for packet in self.container.demux(*(streams or self.streams)):
                if packet.size:
                    yield packet
        except _BROKEN:
            return

    def seek(self, seconds: float) -> None:
        """Go to the keyframe of the video at or before `seconds` as far as the container can."""
        if seconds <= 0:
            self.rewind()
            return
        self._untouched = False
        time_base = _time_base(self.video)
        with suppress(*_BROKEN):  # no index and no way to search: reading goes on from here, which costs time only
            self.container.seek(self.timestamp(seconds, time_base), stream=self.video, backward=True)
        self.video.codec_context.flush_buffers()

    def rewind(self) -> None:
        """Go to the first packet, by opening the file anew: a seek to the start loses sound that lies before the first
        picture (Matroska), or has a time before it (MP4). The streams are other objects afterwards."""
        if not self._untouched:
            self.container.close()
            self._open()

    def packets_from(self, seconds: float, *, lead_seconds: float = 1.0) -> Iterator[Packet]:
        """Packets of all chosen streams, from a keyframe of the video at or before `seconds` or from the beginning.

        Sound may lie earlier in the file than the picture it belongs to, so reading begins `lead_seconds` before.
        """
        self.seek(seconds - lead_seconds)
        packets = self.packets()
        early: list[Packet] = []
        for packet in packets:
            early.append(packet)
            span = self.seconds_of(packet)
            if packet.stream_index == self.video.index and span is not None:
                if span[0] <= seconds + _SAME_SECONDS:
                    return chain(early, packets)
                break
        self.rewind()  # the container has no index, or one that led past the place
        return self.packets()

    def seconds_of(self, packet: Packet) -> tuple[float, float] | None:
        """Start and end of a packet on the clock; None when it carries no time."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return None
        start = self.clock(stamp, packet.time_base)
        length = float((packet.duration or 0) * packet.time_base)
        return start, start + (length or (1 / self.frame_rate if packet.stream_index == self.video.index else 0.0))


@contextmanager
def open_source(path: Path, *, threads: bool = True) -> Iterator[Source]:
    """Open a video file. Raises NotAVideo (no such thing in it) or MediaDamaged (a video, but unreadable).

    `threads` off makes the decoder give each frame at once: right for a few frames here and there.
    """
    source = Source(path, threads=threads)
    try:
        yield source
    finally:
        source.close()


def container_name(path: Path) -> str | None:
    """What the first bytes say the file is (`mp4`, `webm`, ...), None when they are of no known video container."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp":
        return "mov" if head[8:12] == b"qt  " else "mp4"
    if head[4:8] in {b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp"}:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head[:64] else "mkv"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return "wmv"
    for magic, name in ((b"FLV", "flv"), (b"OggS", "ogv"), (b"\x00\x00\x01\xba", "mpg")):
        if head.startswith(magic):
            return name
    syncs = (head[0:1] + head[188:189], head[4:5] + head[196:197])  # packets of 188 bytes, or of 192
    return "ts" if b"\x47\x47" in syncs else None


def open_container(path: Path) -> InputContainer:
    """Raises NotAVideo, MediaDamaged or MediaCrashed."""
    if path.stat().st_size == 0:
        raise NotAVideo(f"{path.name} is empty.")
    try:
        return av.open(
            f"file:{path}",
            **_TOLERANT,
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": _CONTAINERS,
                "codec_whitelist": ",".join(sorted(_DECODERS)),
            },
        )
    except _BROKEN as error:
        if isinstance(error, FFmpegError) and error.errno == errno.ENOMEM:
            raise MediaCrashed(f"{path.name} needs more memory than one media process may use.") from None
        raise _unopenable(path, error) from None


def _unopenable(path: Path, error: Exception) -> MediaDamaged | NotAVideo:
    kind = container_name(path)
    if kind is None:
        return NotAVideo(f"{path.name} is not in a video format that is known here.")
    reason = getattr(error, "strerror", None) or error
    return MediaDamaged(f"{path.name} looks like {kind}, but it can't be read: {reason}.")


def best_video(container: InputContainer, path: Path) -> VideoStream:
    """Raises NotAVideo when there is none that is known."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    known = [s for s in moving if s.codec_context is not None and s.codec_context.name in _DECODERS]
    if not moving:
        kind = "only sound" if container.streams.audio else "no video track"
        raise NotAVideo(f"{path.name} has {kind}.", hint="Submit a file with a video track.")
    if not known:
        name = next((s.codec_context.name for s in moving if s.codec_context is not None), "unknown")
        raise NotAVideo(f"The video codec of {path.name} ({name}) is not supported.", hint="Convert it to H.264.")
    best = max(known, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index))
    if best.width * best.height > _LARGEST_PIXELS:
        raise MediaDamaged(f"{path.name} claims a picture of {best.width}x{best.height}.")
    return best


def best_audio(container: InputContainer) -> AudioStream | None:
    known = [
        s
        for s in container.streams.audio
        if s.codec_context is not None and s.codec_context.name in _DECODERS and s.codec_context.sample_rate
    ]
    return max(
        known,
        key=lambda s: (bool(s.disposition & Disposition.default), s.channels, s.codec_context.sample_rate, -s.index),
        default=None,
    )


def _time_base(stream: VideoStream | AudioStream) -> Fraction:
    return stream.time_base or Fraction(1, av.time_base)
