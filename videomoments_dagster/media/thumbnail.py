"""Stills of a video as JPEG files, and the check that they decode. Both happen in the child process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.media.runner import batch_or_alone, readable, run_media
from videomoments_dagster.processes import Progress, reported


@dataclass(frozen=True)
class ThumbnailRequest:
    """The moment of the source wanted, seconds on its clock, and the JPEG file to make of it."""

    key: str
    at_seconds: float
    destination: Path


@dataclass(frozen=True)
class Thumbnail:
    """A written JPEG; `at_seconds` is the frame it shows, a little later than asked where that one is blank."""

    key: str
    destination: Path
    at_seconds: float
    width: int
    height: int
    size_bytes: int


@dataclass(frozen=True)
class ThumbnailFailure:
    """A thumbnail that could not be made; the others of the batch are not affected."""

    key: str
    error: VideoMomentsError


def at_seconds_of(duration_seconds: float | None) -> float:
    """Where the picture of a whole video is taken: a tenth in, past what it opens with."""
    return (duration_seconds or 0.0) / 10


def make_thumbnails(
    source: Path,
    requests: Sequence[ThumbnailRequest],
    width: int = 480,
    on_progress: Progress | None = None,
    timeout_seconds: float | None = None,
) -> list[Thumbnail | ThumbnailFailure]:
    """Write a JPEG of at most `width` pixels across for every request, upright, in their order.

    Raises DiskFull, and what makes the whole source unusable (NotAVideo, MediaDamaged).
    """
    source = readable(source)

    def together(items: Sequence[ThumbnailRequest]) -> list[Thumbnail | ThumbnailFailure]:
        wanted = [{"at_seconds": item.at_seconds, "destination": item.destination.absolute()} for item in items]
        answers = run_media(
            "make_thumbnails",
            path=source,
            requests=wanted,
            width=width,
            on_progress=on_progress,
            timeout_seconds=timeout_seconds,
        )
        return [
            ThumbnailFailure(item.key, reported(answer["error"]))
            if "error" in answer
            else Thumbnail(key=item.key, destination=item.destination, **answer)
            for item, answer in zip(items, answers, strict=True)
        ]

    return batch_or_alone(requests, together, lambda item, error: ThumbnailFailure(item.key, error))


def image_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | VideoMomentsError]:
    """Width and height of each JPEG, decoded whole; MediaDamaged in its place for one that is not."""

    def together(items: Sequence[Path]) -> list[tuple[int, int] | VideoMomentsError]:
        answers = run_media("image_sizes", paths=[path.absolute() for path in items])
        return [
            reported(answer["error"]) if "error" in answer else (answer["width"], answer["height"])
            for answer in answers
        ]

    return batch_or_alone(paths, together, lambda _, error: error)
