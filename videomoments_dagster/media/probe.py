"""What a video file is: codecs, size, length. The measuring itself happens in the child process."""

from dataclasses import dataclass
from pathlib import Path

from videomoments_dagster.media.runner import readable, run_media


@dataclass(frozen=True)
class MediaInfo:
    """A video as measured. Its clock starts at `start_time_seconds` of the file's own timestamps (see native/source).

    `width` and `height` are of the picture as shown, after rotation; `duration_seconds` is where the later of video
    and audio ends on the clock, by the last packets, whatever the header says.
    """

    container: str
    extension: str
    duration_seconds: float
    size_bytes: int
    video_codec: str
    audio_codec: str | None
    width: int
    height: int
    rotation_degrees: int
    frame_rate: float
    start_time_seconds: float

    @property
    def resolution(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def has_audio(self) -> bool:
        return self.audio_codec is not None


def probe(path: Path) -> MediaInfo:
    """Measure a video file. Raises NotAVideo, MediaDamaged (also when truncated), MediaTimeout, MediaCrashed."""
    return MediaInfo(**run_media("probe", path=readable(path)))
