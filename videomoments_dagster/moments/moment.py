"""What finders, refiners and scorers take and give. Plain values; all times integer ms of the source video's clock."""

from dataclasses import dataclass

from videomoments_dagster.errors import InvalidConfig


@dataclass(frozen=True, slots=True)
class FindOptions:
    """What the request asks of a finder. None: the finder decides, scaled by minutes of speech. `focus` says in the
    user's words what to look for; only language models can read it.

    Raises InvalidConfig when the limits contradict each other, so that no finder has to ask.
    """

    min_length_ms: int = 15_000
    max_length_ms: int = 600_000
    min_moments: int | None = None
    max_moments: int | None = None
    focus: str | None = None

    def __post_init__(self) -> None:
        if self.min_length_ms <= 0:
            raise InvalidConfig(f"The minimum length is {self.min_length_ms} ms.", hint="Give a length above zero.")
        if self.max_length_ms < self.min_length_ms:
            raise InvalidConfig(
                f"The maximum length ({self.max_length_ms} ms) is below the minimum length ({self.min_length_ms} ms).",
                hint="Raise the maximum length or lower the minimum length.",
            )
        if self.min_moments is not None and self.min_moments < 0:
            raise InvalidConfig(f"The minimum number of moments is {self.min_moments}.", hint="Give 0 or more.")
        if self.max_moments is not None and self.max_moments < 1:
            raise InvalidConfig(f"The maximum number of moments is {self.max_moments}.", hint="Give 1 or more.")
        if self.min_moments is not None and self.max_moments is not None and self.max_moments < self.min_moments:
            raise InvalidConfig(
                f"The maximum number of moments ({self.max_moments}) is below the minimum ({self.min_moments}).",
                hint="Raise the maximum number or lower the minimum number.",
            )


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
    """Moments sorted by start, not overlapping. When empty, `reason` says why; that is a result, not a failure.

    `notes` are sentences for people: what a model named that was left out or changed, and why.
    """

    moments: tuple[FoundMoment, ...]
    reason: str = ""
    notes: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model was asked, for the prompts table. Builtin models say here which version of them it was."""

    system: str
    user: str
