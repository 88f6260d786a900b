"""What finders, refiners and scorers take and give. Plain values; all times integer ms of the source video's clock."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FindOptions:
    """What the request asks of a finder. None: the finder decides, scaled by minutes of speech."""

    min_length_ms: int = 15_000
    max_length_ms: int = 600_000
    min_moments: int | None = None
    max_moments: int | None = None


@dataclass(frozen=True, slots=True)
class FoundMoment:
    """A moment as found: `score` 0..10, `reason` a sentence for people."""

    start_ms: int
    end_ms: int
    title: str
    score: int
    reason: str


@dataclass(frozen=True, slots=True)
class FindResult:
    """Moments sorted by start, not overlapping. When empty, `reason` says why; that is a result, not a failure."""

    moments: tuple[FoundMoment, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: a silence, a clip, a moment's boundaries."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Refinement:
    """The refined boundaries (the old ones when `changed` is false) and why."""

    start_ms: int
    end_ms: int
    changed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Score:
    """0 (skip it) to 10 (watch this first), and a written reason."""

    value: int
    reason: str
