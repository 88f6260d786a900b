"""Claims from overlapping windows made into moments: each once, whole, of allowed length, none over another.

Everything happens in whole sentences; `Edges` says where those begin and end in time, always between words.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from videomoments_dagster.moments.answers import Claim
from videomoments_dagster.moments.moment import FindOptions
from videomoments_dagster.moments.transcript import Sentence, Word
from videomoments_dagster.moments.windows import Window

SHORT = "they are too short"
LONG = "no sentences of theirs fit the greatest length"
OVERLAP = "better ones lie where they are"

_SAME = 0.5  # intersection over union from which two claims are the same moment
_WITHIN = 0.8  # share of a cut-off claim that lies within another from which it is a part of that one
_UNSCORED = 5
_LONGEST_WORD_MS = 10_000  # a recognizer that got stuck, not a word


@dataclass(frozen=True, slots=True)
class Edges:
    """Where each sentence begins and ends, in ms: in order, and never inside a word."""

    starts_ms: tuple[int, ...]
    ends_ms: tuple[int, ...]

    def length_ms(self, first: int, last: int) -> int:
        """Of sentences [first, last)."""
        return self.ends_ms[last - 1] - self.starts_ms[first] if first < last else 0


@dataclass(frozen=True, slots=True)
class Merged:
    """Claims in order, none over another; how many were left out for which cause, and how many were changed."""

    claims: tuple[Claim, ...]
    left_out: Counter[str]
    trimmed: int
    extended: int


def edges(sentences: Sequence[Sentence], words: Sequence[Word]) -> Edges:
    """Recognizers' sentences may begin or end within a word; there the nearer edge of the word is taken.

    Later times never come before earlier ones for it, so sentences stay in order.
    """
    busy = _busy(words)
    return Edges(tuple(_free(s.start_ms, busy) for s in sentences), tuple(_free(s.end_ms, busy) for s in sentences))


def merge(shown: Iterable[tuple[Window, Sequence[Claim]]], count: int, at: Edges, options: FindOptions) -> Merged:
    """The moments of a talk of `count` sentences from the claims about each of its windows, in order."""
    claims = _distinct(_joined(_cut_marked(shown, count), at, options.max_length_ms), at)
    left_out: Counter[str] = Counter()
    taken = [False] * count
    placed: list[Claim] = []
    trimmed = extended = 0
    fitting: list[Claim] = []
    for claim in claims:
        fits = _shortened(claim, at, options.max_length_ms)
        length_ms = at.length_ms(fits.first, fits.last)
        if length_ms * 2 < options.min_length_ms:
            left_out[SHORT if fits == claim else LONG] += 1
            continue
        trimmed += fits != claim
        fitting.append(fits)
    # those to extend come last: they may take only what nobody else wants
    for claim in sorted(fitting, key=lambda c: at.length_ms(c.first, c.last) < options.min_length_ms):
        place = _free_run(claim, taken, at)
        kept_ms = at.length_ms(place.first, place.last)
        if place != claim and kept_ms < max(options.min_length_ms, at.length_ms(claim.first, claim.last) / 2):
            left_out[OVERLAP] += 1
            continue
        whole = _extended(place, taken, at, options)
        if whole is None:
            left_out[SHORT] += 1
            continue
        trimmed += place != claim
        extended += whole != place
        taken[whole.first : whole.last] = [True] * (whole.last - whole.first)
        placed.append(whole)
    return Merged(tuple(sorted(placed, key=lambda c: c.first)), left_out, trimmed, extended)


def best(claims: Iterable[Claim], most: int) -> tuple[Claim, ...]:
    """The best `most`, in order of time."""
    return tuple(sorted(sorted(claims, key=_merit)[:most], key=lambda c: c.first))


def _merit(claim: Claim) -> tuple[int, int, int, int]:
    """Sorts the best first."""
    score = _UNSCORED if claim.score is None else claim.score
    return (-score, claim.cut_before + claim.cut_after, claim.first, claim.last)


def _busy(words: Iterable[Word]) -> list[tuple[int, int]]:
    """Stretches of time with no place between two words inside, in order."""
    stretches: list[tuple[int, int]] = []
    for word in words:
        if not 0 < word.end_ms - word.start_ms <= _LONGEST_WORD_MS:
            continue
        if stretches and word.start_ms < stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], word.end_ms))
        else:
            stretches.append((word.start_ms, word.end_ms))
    return stretches


def _free(at_ms: int, busy: Sequence[tuple[int, int]]) -> int:
    position = bisect_right(busy, at_ms, key=lambda stretch: stretch[0]) - 1
    if position < 0 or at_ms >= busy[position][1]:
        return at_ms
    start_ms, end_ms = busy[position]
    return start_ms if at_ms - start_ms <= end_ms - at_ms else end_ms


def _cut_marked(shown: Iterable[tuple[Window, Sequence[Claim]]], count: int) -> list[tuple[Window, list[Claim]]]:
    return [
        (
            window,
            [
                replace(c, cut_before=c.first == window.first > 0, cut_after=c.last == window.last < count)
                for c in dict.fromkeys(claims)
            ],
        )
        for window, claims in shown
    ]


def _joined(shown: Sequence[tuple[Window, list[Claim]]], at: Edges, longest_ms: int) -> list[Claim]:
    """All claims; one that is cut off where a window ends and goes on from where the next begins is made whole.

    Both must claim all that the two windows share, and the whole must be no longer than a moment may be.
    """
    done: list[Claim] = []
    pending: list[Claim] = []  # cut off at the end of the last window
    end = 0
    for window, claims in shown:
        carried: list[Claim] = []
        for claim in claims:
            goes_on = claim.cut_before and window.first < end <= claim.last
            parts = [p for p in pending if goes_on and p.first <= window.first]
            part = max(parts, key=lambda p: p.last - p.first, default=None)
            whole = claim
            if part is not None and at.length_ms(part.first, claim.last) <= longest_ms:
                pending.remove(part)
                whole = _whole(part, claim)
            (carried if whole.cut_after else done).append(whole)
        done += pending
        pending, end = carried, window.last
    return done + pending


def _whole(before: Claim, after: Claim) -> Claim:
    """Named and scored as in the window that shows more of it."""
    more = before if before.last - before.first >= after.last - after.first else after
    return replace(more, first=before.first, last=after.last, cut_before=before.cut_before, cut_after=after.cut_after)


def _distinct(claims: Iterable[Claim], at: Edges) -> list[Claim]:
    """The best first, without those that are the same as a better one, or a cut-off part of another."""
    kept: list[Claim] = []
    over: defaultdict[int, list[Claim]] = defaultdict(list)  # by sentence: few, as no two of them are the same
    for claim in sorted(claims, key=lambda c: (c.cut_before or c.cut_after, *_merit(c))):
        if not any(_same(claim, other, at) for k in _middle(claim, at) for other in over[k]):
            kept.append(claim)
            for k in range(claim.first, claim.last):
                over[k].append(claim)
    return sorted(kept, key=_merit)


def _middle(claim: Claim, at: Edges) -> range:
    """The sentences in the middle of its time: whatever shares half of it or more holds one of them."""
    middle_ms = (at.starts_ms[claim.first] + at.ends_ms[claim.last - 1]) / 2
    ends_after = bisect_left(at.ends_ms, middle_ms, claim.first, claim.last - 1)
    starts_before = bisect_right(at.starts_ms, middle_ms, claim.first, claim.last) - 1
    return range(min(ends_after, starts_before), max(ends_after, starts_before) + 1)


def _same(claim: Claim, other: Claim, at: Edges) -> bool:
    if claim.last <= other.first or other.last <= claim.first:
        return False
    both = at.length_ms(max(claim.first, other.first), min(claim.last, other.last))
    mine = at.length_ms(claim.first, claim.last)
    all_ms = at.length_ms(min(claim.first, other.first), max(claim.last, other.last))
    cut = claim.cut_before or claim.cut_after
    return both >= _SAME * all_ms or (cut and both >= _WITHIN * mine)


def _shortened(claim: Claim, at: Edges, longest_ms: int) -> Claim:
    """Its first sentences, as many as fit."""
    last = claim.last
    if at.length_ms(claim.first, last) > longest_ms:
        last = max(claim.first, bisect_right(at.ends_ms, at.starts_ms[claim.first] + longest_ms, claim.first, last))
    return replace(claim, last=last)


def _free_run(claim: Claim, taken: Sequence[bool], at: Edges) -> Claim:
    """The longest part of it that is not taken; empty when all of it is."""
    longest = (claim.first, claim.first)
    first = claim.first
    for here in range(claim.first, claim.last + 1):
        if here == claim.last or taken[here]:
            if at.length_ms(first, here) > at.length_ms(*longest):
                longest = (first, here)
            first = here + 1
    return claim if longest == (claim.first, claim.last) else replace(claim, first=longest[0], last=longest[1])


def _extended(claim: Claim, taken: Sequence[bool], at: Edges, options: FindOptions) -> Claim | None:
    """Long enough by its neighbours that are free, the one after the shorter pause first. None when it can't be."""
    first, last = claim.first, claim.last
    while at.length_ms(first, last) < options.min_length_ms:
        neighbours: list[tuple[int, int, int]] = []
        if last < len(taken) and not taken[last]:
            neighbours.append((at.starts_ms[last] - at.ends_ms[last - 1], first, last + 1))
        if first > 0 and not taken[first - 1]:
            neighbours.append((at.starts_ms[first] - at.ends_ms[first - 1], first - 1, last))
        allowed = [n for n in neighbours if at.length_ms(n[1], n[2]) <= options.max_length_ms]
        if not allowed:
            return None
        _, first, last = min(allowed, key=lambda n: n[0])
    return replace(claim, first=first, last=last)
