"""The closed list of places where a moment may start or end: gaps between words near its present boundaries.

A refiner, built in or remote, picks from this list by id and never makes up a time. Nothing is chosen here.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from videomoments_dagster.moments.moment import Span
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word

REACH_MS = 8_000
MOST = 16
_LEAD_MS = 150  # silence kept before the first word and after the last one: recognizers are off by a tenth of a second
_TAIL_MS = 250
_TOLERANCE_MS = 150

Edge = Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place: `id` is 's1', 's2' .. for starts and 'e1', 'e2' .. for ends, in order of time."""

    id: str
    at_ms: int
    sentence: bool
    silent: bool
    text: str  # the words that would come first, or last


def start_candidates(
    around_ms: int, clip: Span, transcript: Transcript, silences: Sequence[Span]
) -> tuple[Candidate, ...]:
    """Places to start, at most REACH_MS from `around_ms` and inside `clip`, sorted by time."""
    return _candidates("start", around_ms, clip, transcript, silences)


def end_candidates(
    around_ms: int, clip: Span, transcript: Transcript, silences: Sequence[Span]
) -> tuple[Candidate, ...]:
    """Places to end, at most REACH_MS from `around_ms` and inside `clip`, sorted by time."""
    return _candidates("end", around_ms, clip, transcript, silences)


def _candidates(
    edge: Edge, around_ms: int, clip: Span, transcript: Transcript, silences: Sequence[Span]
) -> tuple[Candidate, ...]:
    low, high = max(clip.start_ms, around_ms - REACH_MS), min(clip.end_ms, around_ms + REACH_MS)
    units: Sequence[Word | Sentence] = transcript.words or transcript.sentences
    edges = {s.start_ms if edge == "start" else s.end_ms for s in transcript.sentences}
    found: list[Candidate] = []
    first = bisect_left(units, low - _TAIL_MS, key=lambda unit: unit.end_ms)
    for position in range(max(first - 1, 0), len(units)):
        unit = units[position]
        if unit.start_ms > high + _TAIL_MS:
            break
        before_ms = units[position - 1].end_ms if position else 0
        after_ms = units[position + 1].start_ms if position + 1 < len(units) else max(clip.end_ms, unit.end_ms)
        if edge == "start":
            if before_ms > unit.start_ms:
                continue
            silence = _silence(silences, before_ms, unit.start_ms)
            at_ms = unit.start_ms if silence is None else max(before_ms, min(silence.end_ms, unit.start_ms) - _LEAD_MS)
        else:
            if after_ms < unit.end_ms:
                continue
            silence = _silence(silences, unit.end_ms, after_ms)
            at_ms = unit.end_ms if silence is None else min(after_ms, max(silence.start_ms, unit.end_ms) + _TAIL_MS)
        if low <= at_ms <= high:
            own_edge = unit.start_ms if edge == "start" else unit.end_ms
            found.append(Candidate("", at_ms, own_edge in edges, silence is not None, _words(units, position, edge)))
    nearest = sorted(found, key=lambda c: (not c.sentence, not c.silent, abs(c.at_ms - around_ms), c.at_ms))[:MOST]
    ordered = sorted(nearest, key=lambda c: c.at_ms)
    return tuple(
        Candidate(f"{edge[0]}{number}", c.at_ms, c.sentence, c.silent, c.text) for number, c in enumerate(ordered, 1)
    )


def _silence(silences: Sequence[Span], start_ms: int, end_ms: int) -> Span | None:
    """The longest silence whose middle lies in the gap, give or take what recognizers are off by."""
    first = bisect_left(silences, start_ms - _TOLERANCE_MS, key=lambda s: s.end_ms)
    last = bisect_right(silences, end_ms + _TOLERANCE_MS, key=lambda s: s.start_ms)
    inside = [
        s
        for s in silences[first:last]
        if start_ms - _TOLERANCE_MS <= (s.start_ms + s.end_ms) / 2 <= end_ms + _TOLERANCE_MS
    ]
    return max(inside, key=lambda s: s.end_ms - s.start_ms, default=None)


def _words(units: Sequence[Word | Sentence], position: int, edge: Edge) -> str:
    shown = units[position : position + 6] if edge == "start" else units[max(0, position - 5) : position + 1]
    text = " ".join(unit.text for unit in shown)
    return text[:60] if edge == "start" else text[-60:]
