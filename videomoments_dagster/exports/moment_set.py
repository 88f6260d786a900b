"""What every format is written from: one video, and the moments of it that are exported. Times are exact fractions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class ExportedVideo:
    """`file_name` is the stored file's; `cloud_url` where it lies, which needs rights to open. Seconds; pixels.
    Of `has_video` and `has_audio` at least one is true."""

    identifier: str
    title: str
    file_name: str
    cloud_url: str
    duration: Fraction | None
    frame_rate: float | None
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool


@dataclass(frozen=True, slots=True)
class ExportedMoment:
    """Times are seconds of the video's clock."""

    identifier: str
    title: str
    start: Fraction
    end: Fraction
    is_refined: bool
    parent_identifier: str | None
    score: int | None
    model_name: str | None


@dataclass(frozen=True, slots=True)
class MomentSet:
    """`moments` in the order of the video."""

    video: ExportedVideo
    moments: Sequence[ExportedMoment]


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]+")


def one_line(text: str) -> str:
    """`text` as a single line of printable characters, which every format can hold."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def clock(seconds: Fraction, *, separator: str = ".") -> str:
    """H:MM:SS.mmm with at least two digits of hours, to the nearest millisecond."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{whole:02}{separator}{milliseconds:03}"
