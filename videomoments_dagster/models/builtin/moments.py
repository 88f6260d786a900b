"""`builtin_moments`: finds, refines and scores moments in this process, without network, always the same.

The work is done by the pure functions of `moments/`; this is only the model that the catalog hands out.
"""

from collections.abc import Sequence

from videomoments_dagster.models.protocols import ClipSource, Found, Refined, Sampling, Scored
from videomoments_dagster.moments import refinement, scoring
from videomoments_dagster.moments.finding import find_moments
from videomoments_dagster.moments.moment import FindOptions, FoundMoment, Prompt, Span
from videomoments_dagster.moments.transcript import Transcript
from videomoments_dagster.processes import Progress

_SYSTEM = "builtin_moments: lexical topic segmentation; no language model is asked."
_GENERATION = Prompt(_SYSTEM, "Divide the transcript into topics and title each with a phrase of its own.")


class BuiltinMoments:
    """Implements MomentFinder, MomentRefiner and MomentScorer. The prompts are what the rows show instead of one."""

    key = "builtin_moments"
    sampling = Sampling()
    watches_video = times_trusted = False
    refinement_prompt = Prompt(
        _SYSTEM, "Choose the start and the end from the candidates: sentence edges, silences, gaps between words."
    )
    scoring_prompt = Prompt(_SYSTEM, "Rate each moment by what its words tell.")

    def generation_prompt(self, options: FindOptions) -> Prompt:
        return _GENERATION

    def find(self, transcript: Transcript, options: FindOptions, *, on_progress: Progress | None = None) -> Found:
        """The transcript divided into topics. Raises InvalidTranscript when it is not in order."""
        return Found(find_moments(transcript, options))

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
        span = Span(moment.start_ms, moment.end_ms)
        return Refined(refinement.refine(span, clip, transcript, silences, options))

    def score(self, moments: Sequence[FoundMoment], transcript: Transcript) -> Scored:
        return Scored(tuple(scoring.score(moment.start_ms, moment.end_ms, transcript) for moment in moments))
