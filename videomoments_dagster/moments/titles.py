"""Titles from the transcript's own words: for each moment the phrase that sets it apart. No times, no model.

A phrase is a run of up to seven words of one sentence that begins and ends with words that carry content. It is worth
how much its stems belong to this moment rather than to the rest of the talk; being repeated and standing early help.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from videomoments_dagster.moments.text import content_stem

MAX_TITLE_CHARACTERS = 80
_LONGEST_PHRASE = 6
_CONNECTORS = "of the a an and for to in on with without vs versus or by from at as into your our between"
_INSIDE = frozenset(_CONNECTORS.split())
_WORD = re.compile(r"[^\W_]+(?:['\u2019.\-/][^\W_]+)*")
_BREAK = re.compile(r"[,;:.!?()\[\]\"\u201c\u201d\u2026]|\s[-\u2013\u2014]+\s|--+")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    lower: str
    stem: str | None


@dataclass(frozen=True, slots=True)
class _Phrase:
    words: tuple[_Word, ...]

    @property
    def stems(self) -> tuple[str, ...]:
        return tuple(word.stem for word in self.words if word.stem)

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def titles(moments: Sequence[Sequence[str]]) -> list[str]:
    """A title for each moment, given the sentences' texts of each: distinct, not empty, at most 80 characters."""
    clauses = [[clause for text in texts for clause in _clauses(text)] for texts in moments]
    counts = [Counter(w.stem for clause in moment for w in clause if w.stem) for moment in clauses]
    spread = Counter(stem for count in counts for stem in count)
    overall = sum(counts, Counter[str]())
    taken: set[str] = set()
    chosen: list[str] = []
    for position, (moment, count) in enumerate(zip(clauses, counts, strict=True)):
        weights = {s: _belonging(n, overall[s], spread[s], len(counts)) for s, n in count.items()}
        title = next((t for t in _candidates(moment, weights) if t.casefold() not in taken), None)
        if title is None:
            title = _opening_words(moments[position], position, taken)
        taken.add(title.casefold())
        chosen.append(title)
    return chosen


def _belonging(here: int, everywhere: int, spread: int, moments: int) -> float:
    """Weight of a stem in a moment: damped frequency, share of its uses that fall here, rarity among moments."""
    return math.log1p(here) * (here / everywhere) ** 0.5 * math.log(1 + moments / spread)


def _clauses(text: str) -> Iterator[list[_Word]]:
    for clause in _BREAK.split(text.replace(".", ". ") if ". " not in text else text):
        words = []
        for found in _WORD.finditer(clause):
            lower = found.group().lower().replace("\u2019", "'")
            words.append(_Word(found.group(), lower, content_stem(lower)))
        if words:
            yield words


def _candidates(clauses: Sequence[Sequence[_Word]], weights: dict[str, float]) -> Iterator[str]:
    """Titles from best to worst."""
    value: dict[str, float] = {}
    shown: dict[str, str] = {}
    uses: Counter[str] = Counter()
    total = max(1, len(clauses))
    for position, clause in enumerate(clauses):
        early = 1.25 - 0.5 * position / total
        for phrase in _phrases(clause):
            key = " ".join(word.stem or word.lower for word in phrase.words)
            uses[key] += 1
            stems = set(phrase.stems)
            worth = early * sum(weights[s] for s in stems) / (1.0 + 0.25 * len(phrase.words)) ** 0.9
            if worth > value.get(key, 0.0):
                value[key], shown[key] = worth, phrase.text
    ranked = sorted(value, key=lambda key: (-value[key] * (1 + 0.35 * math.log(uses[key])), key))
    for key in ranked:
        yield _cased(shown[key])


def _phrases(clause: Sequence[_Word]) -> Iterator[_Phrase]:
    for first, word in enumerate(clause):
        if not word.stem:
            continue
        for last in range(first, min(first + _LONGEST_PHRASE, len(clause))):
            ending = clause[last]
            if not ending.stem and ending.lower not in _INSIDE:
                break
            if ending.stem:
                phrase = _Phrase(tuple(clause[first : last + 1]))
                if len(set(phrase.stems)) == len(phrase.stems) and len(phrase.text) <= MAX_TITLE_CHARACTERS:
                    yield phrase


def _cased(text: str) -> str:
    """Sentence case that leaves names and acronyms as they are."""
    return text[0].upper() + text[1:]


def _opening_words(texts: Sequence[str], position: int, taken: set[str]) -> str:
    """For a moment without any phrase of its own: how it begins, numbered when that is taken too."""
    opening = " ".join(" ".join(texts).split())[:60].rsplit(" ", 1)[0].strip(" ,;:.-") or "Moment"
    title = _cased(opening)
    return title if title.casefold() not in taken else f"{title} ({position + 1})"
