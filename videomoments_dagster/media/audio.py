"""A video's sound as speech recognizers want it. The decoding happens in the child process."""

from dataclasses import dataclass
from pathlib import Path

from videomoments_dagster.media.runner import readable, run_media
from videomoments_dagster.processes import Progress


@dataclass(frozen=True)
class AudioInfo:
    """A written WAV file: mono, 16 bit, `sample_rate` 16000."""

    duration_seconds: float
    size_bytes: int
    sample_rate: int


def extract_audio(path: Path, destination: Path, on_progress: Progress | None = None) -> AudioInfo:
    """Write the best audio track of a video as a 16 kHz mono WAV whose sample n is at n/16000 s of the video's clock.

    Silence fills a late start, gaps, and an early end, so that the file lasts as long as the video. Raises NoAudio,
    NotAVideo, MediaDamaged, MediaTimeout, MediaCrashed, DiskFull.
    """
    answer = run_media(
        "extract_audio", path=readable(path), destination=destination.absolute(), on_progress=on_progress
    )
    return AudioInfo(**answer)
