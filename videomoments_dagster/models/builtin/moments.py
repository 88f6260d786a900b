"""`builtin_moments`: finds, refines and scores moments in this process, without network, always the same.

The work is done by the pure functions of `moments/`; this is only the model that the registry hands out.
"""

from collections.abc import Sequence

from videomoments_dagster.moments import refinement, scoring
from videomoments_dagster.moments.finding import find_moments
from videomoments_dagster.moments.moment import FindOptions, FindResult, FoundMoment, Prompt, Refinement, Score, Span
from videomoments_dagster.moments.transcript import Transcript

_SYSTEM = "builtin_moments: lexical topic segmentation; no language model is asked."


class BuiltinMoments:
    """Implements MomentFinder, MomentRefiner and MomentScorer. The prompts are what the rows show instead of one."""

    key = "builtin_moments"
    watches_video = False
    generation_prompt = Prompt(_SYSTEM, "Divide the transcript into topics and title each with a phrase of its own.")
    refinement_prompt = Prompt(
        _SYSTEM, "Choose the start and the end from the candidates: sentence edges, silences, gaps between words."
    )

    def find(self, transcript: Transcript, options: FindOptions) -> FindResult:
        """The transcript divided into topics. Raises InvalidTranscript when it is not in order."""
        return find_moments(transcript, options)

    def refine(
        self, moment: Span, clip: Span, transcript: Transcript, silences: Sequence[Span], options: FindOptions
    ) -> Refinement:
        return refinement.refine(moment, clip, transcript, silences, options)

    def score(self, moment: FoundMoment, transcript: Transcript) -> Score:
        return scoring.score(moment.start_ms, moment.end_ms, transcript)
