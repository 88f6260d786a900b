"""The four roles a model can play. Builtin and remote models implement the same small protocols."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from videomoments_dagster.moments.moment import FindOptions, FindResult, FoundMoment, Prompt, Refinement, Score, Span
from videomoments_dagster.moments.transcript import Transcript
from videomoments_dagster.processes import Progress


@dataclass(frozen=True, slots=True)
class Transcription:
    """What a recognizer heard, and the wall seconds it took."""

    transcript: Transcript
    processing_time_seconds: float


class SpeechRecognizer(Protocol):
    key: str

    def transcribe(self, audio: Path, *, on_progress: Progress | None = None) -> Transcription:
        """Transcribe a 16 kHz mono WAV file. No speech gives an empty transcript, not an error."""
        ...


class MomentFinder(Protocol):
    key: str
    generation_prompt: Prompt

    def find(self, transcript: Transcript, options: FindOptions) -> FindResult: ...


class MomentRefiner(Protocol):
    key: str
    refinement_prompt: Prompt
    watches_video: bool

    def refine(
        self, moment: Span, clip: Span, transcript: Transcript, silences: Sequence[Span], options: FindOptions
    ) -> Refinement:
        """Better boundaries for `moment` inside `clip`. Never worse than its input: unsure means unchanged."""
        ...


class MomentScorer(Protocol):
    key: str

    def score(self, moment: FoundMoment, transcript: Transcript) -> Score: ...
