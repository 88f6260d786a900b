"""Better boundaries for one moment: the cheapest pair from the closed list of candidates, or what it was.

The cost of a boundary, in seconds: how far it moves, plus a price for each thing that makes a cut sound bad.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from videomoments_dagster.moments.candidates import Candidate, Edge, end_candidates, start_candidates
from videomoments_dagster.moments.moment import FindOptions, Refinement, Span
from videomoments_dagster.moments.transcript import Transcript

_NOT_AT_SENTENCE = 4.0
_NOT_IN_SILENCE = 1.5
_INSIDE_WORD = 4.0
_NO_BREATH = 0.5  # at a silence, but cut right at the edge of the word
_MOVING = 0.25  # so that nothing moves for nothing
_SAME_GAP_MS = 400


@dataclass(frozen=True, slots=True)
class _Place:
    at_ms: int
    cost: float
    what: str


def refine(
    moment: Span, clip: Span, transcript: Transcript, silences: Sequence[Span], options: FindOptions
) -> Refinement:
    """The moment with boundaries between words, at sentence edges and in silences where these are near.

    The result lies inside `clip` and within the lengths of `options`. Unchanged when there is nothing better.
    """
    if moment.end_ms <= clip.start_ms or moment.start_ms >= clip.end_ms:
        return unchanged(moment, "The clip does not show this moment.")
    starts = start_candidates(moment.start_ms, clip, transcript, silences)
    ends = end_candidates(moment.end_ms, clip, transcript, silences)
    inside = clip.start_ms <= moment.start_ms and moment.end_ms <= clip.end_ms
    if inside and not starts and not ends:
        return unchanged(moment, "No gap between words is near its boundaries.")
    pairs = [
        (start.cost + end.cost, start, end)
        for start, end in product(
            _places("start", moment.start_ms, max(moment.start_ms, clip.start_ms), starts, transcript),
            _places("end", moment.end_ms, min(moment.end_ms, clip.end_ms), ends, transcript),
        )
        if options.min_length_ms <= end.at_ms - start.at_ms <= options.max_length_ms
    ]
    if not pairs:
        return unchanged(moment, "No boundaries near it keep the length limits.")
    _, start, end = min(pairs, key=lambda pair: (pair[0], pair[1].at_ms, pair[2].at_ms))
    if (start.at_ms, end.at_ms) == (moment.start_ms, moment.end_ms):
        return unchanged(moment, "No better boundaries are near it.")
    moves = ((start.at_ms, moment.start_ms, start.what), (end.at_ms, moment.end_ms, end.what))
    return Refinement(start.at_ms, end.at_ms, True, said_of_moves(*moves))


def _places(
    edge: Edge, asked_ms: int, kept_ms: int, candidates: Sequence[Candidate], transcript: Transcript
) -> list[_Place]:
    """Staying first (moved only as far as the clip forces it), then every candidate."""
    staying = _Place(kept_ms, staying_cost(kept_ms, candidates, transcript), f"the {edge} of the clip")
    return [
        staying,
        *(
            _Place(c.at_ms, _MOVING + abs(c.at_ms - asked_ms) / 1000 + price(c), what_it_is(edge, c))
            for c in candidates
            if c.at_ms != kept_ms
        ),
    ]


def price(candidate: Candidate) -> float:
    """What makes a cut there sound bad, in seconds that one would move it to avoid that."""
    return (0.0 if candidate.sentence else _NOT_AT_SENTENCE) + (0.0 if candidate.silent else _NOT_IN_SILENCE)


def staying_cost(at_ms: int, candidates: Sequence[Candidate], transcript: Transcript) -> float:
    """The price of the present boundary: it is judged by the candidate of the same gap between words, if any."""
    words = transcript.words
    position = bisect_right(words, at_ms, key=lambda word: word.start_ms) - 1
    if position >= 0 and words[position].start_ms < at_ms < words[position].end_ms:
        return _INSIDE_WORD + _NOT_AT_SENTENCE + _NOT_IN_SILENCE
    near = min(candidates, key=lambda c: (abs(c.at_ms - at_ms), c.at_ms), default=None)
    if near is None or abs(near.at_ms - at_ms) > _SAME_GAP_MS:
        return _NOT_AT_SENTENCE + _NOT_IN_SILENCE
    return price(near) + (_NO_BREATH if near.silent and near.at_ms != at_ms else 0.0)


def what_it_is(edge: Edge, candidate: Candidate) -> str:
    """In words, for reasons."""
    place = f"the {edge} of a sentence" if candidate.sentence else "a gap between words"
    return f"{place}, in a silence" if candidate.silent else place


def said_of_moves(start: tuple[int, int, str], end: tuple[int, int, str]) -> str:
    """A sentence about (new ms, old ms, what is there) of both boundaries, at least one of them moved."""
    moves = [
        f"{name} moved by {(new_ms - old_ms) / 1000:+.2f} s to {what}"
        for name, (new_ms, old_ms, what) in (("start", start), ("end", end))
        if new_ms != old_ms
    ]
    reason = " and ".join(moves)
    return f"{reason[0].upper()}{reason[1:]}."


def unchanged(moment: Span, reason: str) -> Refinement:
    """The moment as it was, and why."""
    return Refinement(moment.start_ms, moment.end_ms, False, reason)
