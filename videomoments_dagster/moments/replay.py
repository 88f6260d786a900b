"""Deriving moments, refinements and scores again from kept answers: the same functions, no model, the same result.

What `Archive.inputs` holds for each asset is said, and read, here.
"""

from collections.abc import Mapping
from typing import Any

from videomoments_dagster.errors import Conflict, InvalidInput
from videomoments_dagster.moments import choice, generation, judging, refinement
from videomoments_dagster.moments.archive import Archive, digest
from videomoments_dagster.moments.finding import find_moments
from videomoments_dagster.moments.moment import FindOptions, FindResult, Refinement, Score, Span
from videomoments_dagster.moments.transcript import Transcript

_BUILTIN = "builtin_moments"


def replay_moments(archive: Archive, transcript: Transcript) -> FindResult:
    """`inputs`: context_tokens and max_tokens, which the windows follow from. Raises Conflict when the transcript is
    another than the answers are about; so do the others."""
    _same(archive, transcript)
    if archive.model == _BUILTIN:
        return find_moments(transcript, archive.options)
    plan = generation.plan(transcript, archive.options, **_read(archive.inputs, "context_tokens", "max_tokens"))
    if len(plan.windows) != len(archive.exchanges):
        raise InvalidInput(f"{len(archive.exchanges)} answers are kept for {len(plan.windows)} windows.")
    return generation.derive(transcript, archive.options, plan, [each.answer for each in archive.exchanges])


def replay_refinements(archive: Archive, transcript: Transcript) -> dict[str, Refinement]:
    """By identifier of the root moment. `inputs`: `about`, those identifiers; silences; and for each of the moments its
    span, its clip, the lengths allowed, the model that refined it and whether that model's own times were trusted. All
    times ms."""
    _same(archive, transcript)
    silences = [Span(*silence) for silence in _read(archive.inputs, "silences")["silences"]]
    answers = {exchange.about: exchange.answer for exchange in archive.exchanges}
    found: dict[str, Refinement] = {}
    for each in _read(archive.inputs, "moments")["moments"]:
        moment, clip, identifier = Span(*each["span"]), Span(*each["clip"]), each["identifier"]
        options = FindOptions(*each["lengths"])
        if each["model"] == _BUILTIN:
            found[identifier] = refinement.refine(moment, clip, transcript, silences, options)
        else:
            found[identifier] = choice.choose(
                answers.get(identifier),
                moment,
                clip,
                transcript,
                silences,
                options,
                times_trusted=each["times_trusted"],
            )
    return found


def replay_scores(archive: Archive, transcript: Transcript) -> dict[str, Score]:
    """By identifier. `inputs`: `about`, the identifiers that were scored; `numbered`, for each exchange those of them
    that its numbers stand for. The builtin scorer's scores are not kept: they follow from the rows."""
    _same(archive, transcript)
    found: dict[str, Score] = {}
    for exchange, numbered in zip(archive.exchanges, _read(archive.inputs, "numbered")["numbered"], strict=True):
        by_number = {int(number): identifier for number, identifier in numbered.items()}
        scores = judging.scores(exchange.answer, tuple(by_number))
        found |= {by_number[number]: score for number, score in scores.items()}
    return found


def _same(archive: Archive, transcript: Transcript) -> None:
    if archive.transcript_digest != digest(transcript):
        raise Conflict(
            f"The transcript has changed since these answers ({archive.asset}) were given.",
            hint="Materialize the asset again: the answers are about sentences that are no longer there.",
        )


def _read(inputs: Mapping[str, Any], *names: str) -> dict[str, Any]:
    missing = [name for name in names if name not in inputs]
    if missing:
        raise InvalidInput(f"The kept answers lack {', '.join(missing)}.")
    return {name: inputs[name] for name in names}
