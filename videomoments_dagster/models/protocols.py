"""The four roles a model can play. Builtin and remote models implement the same small protocols."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from videomoments_dagster.errors import ModelError
from videomoments_dagster.moments.exchange import Exchange
from videomoments_dagster.moments.moment import FindOptions, FindResult, FoundMoment, Prompt, Refinement, Score, Span
from videomoments_dagster.moments.transcript import Transcript
from videomoments_dagster.processes import Progress


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model chooses its words. None: the server's own default, or a model that does not choose."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Transcription:
    """What a recognizer heard, and the wall seconds it took."""

    transcript: Transcript
    processing_time_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a finder found, the exchanges it was derived from (none for a builtin one), and what else it took to derive
    it: see moments/replay.py."""

    result: FindResult
    exchanges: tuple[Exchange, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refined:
    """One moment's refinement, and the exchange it was derived from (None when no model was asked). `failure`: why the
    model could not be asked about this one, which is therefore unchanged."""

    refinement: Refinement
    exchange: Exchange | None = None
    failure: ModelError | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A score for each moment in order, None where the model gave none; the exchanges, and which of the moments
    (1, 2, ...) each of them was about."""

    scores: tuple[Score | None, ...]
    exchanges: tuple[Exchange, ...] = ()
    numbers: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ClipSource:
    """A stored clip as a model may be shown it: by signed URL, as a local file, or as JPEG stills.

    `frames` takes times in ms of the source video's clock. All three raise what storage and media raise.
    """

    span: Span
    url: Callable[[], str]
    file: Callable[[], AbstractContextManager[Path]]
    frames: Callable[[Sequence[int]], list[bytes]]


class AnswerMemory(Protocol):
    """Usable answers of a stage that has not finished. `digest` says what was asked of whom; answers are JSON."""

    def recall(self, digest: str) -> dict[str, Any] | None: ...

    def keep(self, digest: str, answer: Mapping[str, Any]) -> None: ...


class SpeechRecognizer(Protocol):
    key: str

    def transcribe(self, audio: Path, *, on_progress: Progress | None = None) -> Transcription:
        """Transcribe a 16 kHz mono WAV file. No speech gives an empty transcript, not an error."""
        ...


class MomentFinder(Protocol):
    key: str
    sampling: Sampling

    def generation_prompt(self, options: FindOptions) -> Prompt:
        """The prompt without the transcript, for the prompts table: the same for every video with these options."""
        ...

    def find(self, transcript: Transcript, options: FindOptions, *, on_progress: Progress | None = None) -> Found: ...


class MomentRefiner(Protocol):
    """`times_trusted`: times it gives by itself, not by a candidate's id, may move a boundary."""

    key: str
    times_trusted: bool
    sampling: Sampling
    refinement_prompt: Prompt
    watches_video: bool

    def refine(
        self,
        moment: FoundMoment,
        clip: Span,
        transcript: Transcript,
        silences: Sequence[Span],
        options: FindOptions,
        *,
        about: str = "",
        shown: ClipSource | None = None,
    ) -> Refined:
        """Better boundaries for `moment` inside `clip`. Never worse than its input: unsure means unchanged.

        `about` names the moment in the exchange; `shown` is there when the refiner watches video.
        """
        ...


class MomentScorer(Protocol):
    key: str
    sampling: Sampling
    scoring_prompt: Prompt

    def score(self, moments: Sequence[FoundMoment], transcript: Transcript) -> Scored: ...


class ChatModel(MomentFinder, MomentRefiner, MomentScorer, Protocol):
    """One that answers in words plays all three roles."""
