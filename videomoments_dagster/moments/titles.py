"""Titles from the transcript's own words: for each moment the phrase that sets it apart. No times, no model.

A phrase is a run of up to five words of one clause that begins and ends with words that carry content. It is worth
how often its stems are said here and in how few other moments; being repeated, early and a noun helps.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from videomoments_dagster.moments.text import content_stem

MAX_TITLE_CHARACTERS = 80
_LONGEST_PHRASE = 5
_OPENING_CHARACTERS = 60
_CONNECTORS = "of the a an and for to in on with without vs versus or by from as into between"
_INSIDE = frozenset(_CONNECTORS.split())
_WEAK = """
able add added adding adds allow allowed allows answer answers apply ask asked asking assume available aware based
become becomes begin believe bigger bring brings brought build building built buy call called calling calls care
careful change changed changes changing check choose chose clear clearly come common complete completely complex
compare compared concern concerned consider contain correct correctly couple create created creates creating cut deal
decide decided deep deeper depend depends describe described difference difficult directly discuss discussed discussing
easier easily easy effect eventually exact exist exists expect expensive explain explained explaining extra extremely
fair fairly fast feel feels figure find finding finds finish follow following follows forget forward found full fully
fun generally generate generated glad hand happy hard harder hear heard help helpful helps high higher hold hope huge
imagine immediately important impossible include included including insanely interested interesting involved issue kick
kinda large larger later lead learn learned leave left level like likely limited line listen literally live lose loses
lost love lower main major manage matter maybe minute minutes month months move moved moving multiple natural necessary
nearly normal normally notice number numbers obvious obviously okay open option order original ourselves pass pay
perfect pick play plus possible possibly potentially present presumably pretend pretty prevent previous problem problems
prove provide provides published pull purpose push quick quickly rarely reach read ready real realize recent recently
recommend refer related relatively relevant remember remove removed replace require required requires rest run running
runs search sell send sending sends sense sent separate serious set sets shared short should show showed shows similar
similarly simple simpler single slightly slow soon sound sounds special specific specifically spend spending stay step
steps stick stop stopped strange strong stuck sudden suddenly super suppose supposed terms tend theoretically totally
tough track tricky true trust truth turn turns type types typical typically understand understanding understood unless
upset useful usual usually variety version versus view wait waiting watch weeks weird whatever wish won wonder word
words worked worry worse worst worth wrong write writing written wrote year years yesterday young
"""
_WEAK_WORDS = frozenset(_WEAK.split())
_DETERMINERS = (
    "the a an of in for on with from by this these those your our their its my his her no some any each every"
)
_BEFORE_NOUN = frozenset(_DETERMINERS.split())
# chosen by how many stems the titles share with titles that people gave the same 297 chapters
_SINGLE_WORD = 0.6
_LATE = 0.7
_LENGTH = 0.4
_WORD = re.compile(r"[^\W_]+(?:['\u2019.\-/][^\W_]+)*")
_BREAK = re.compile(r"[,;:!?()\[\]\"\u201c\u201d\u2026]|[.](?=\s|$)|\s[-\u2013\u2014]+\s|--+")


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
    nouns = _nouns(clause for moment in clauses for clause in moment)
    taken: set[str] = set()
    chosen: list[str] = []
    for texts, moment, count in zip(moments, clauses, counts, strict=True):
        weights = {s: _belonging(n, spread[s], len(counts)) for s, n in count.items()}
        candidates = [*_compound(_ranked(moment, weights, nouns)), _opening_words(texts)]
        title = next((t for t in candidates if t.casefold() not in taken), None)
        if title is None:
            title = f"{candidates[-1]} ({len(chosen) + 1})"
        taken.add(title.casefold())
        chosen.append(title)
    return chosen


def _belonging(here: int, spread: int, moments: int) -> float:
    """Weight of a stem in a moment: damped frequency here, damped rarity among the moments."""
    return math.log(0.5 + here) * math.sqrt(math.log(1 + moments / spread))


def _clauses(text: str) -> Iterator[list[_Word]]:
    for clause in _BREAK.split(text):
        words = []
        for found in _WORD.finditer(clause):
            lower = found.group().lower().replace("\u2019", "'")
            words.append(_Word(found.group(), lower, content_stem(lower)))
        if words:
            yield words


def _nouns(clauses: Iterable[Sequence[_Word]]) -> dict[str, float]:
    """How far each word is used as a noun in this talk, 0..1: what stands before it, and that no noun follows it."""
    noun: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    for clause in clauses:
        for before, word, after in zip((None, *clause), clause, (*clause[1:], None), strict=False):
            if not word.stem:
                continue
            uses[word.lower] += 1
            leads_to_noun = before is not None and (before.stem or before.lower in _BEFORE_NOUN)
            if leads_to_noun and not (after is not None and after.stem):
                noun[word.lower] += 1
    return {word: (noun[word] + 0.3) / (n + 1) for word, n in uses.items()}


def _ranked(clauses: Sequence[Sequence[_Word]], weights: dict[str, float], nouns: dict[str, float]) -> list[_Phrase]:
    """Phrases from best to worst, one for each set of stems."""
    value: dict[frozenset[str], float] = {}
    shown: dict[frozenset[str], _Phrase] = {}
    uses: Counter[frozenset[str]] = Counter()
    for position, clause in enumerate(clauses):
        early = 1 - _LATE * position / len(clauses)
        for phrase in _phrases(clause):
            stems = frozenset(phrase.stems)
            uses[stems] += 1
            worth = early * sum(weights[s] for s in stems) / len(phrase.words) ** _LENGTH
            worth *= (0.15 + nouns[phrase.words[-1].lower]) * (_SINGLE_WORD if len(stems) == 1 else 1.0)
            if worth > value.get(stems, 0.0):
                value[stems], shown[stems] = worth, phrase
    order = sorted(value, key=lambda stems: (-value[stems] * (1 + math.log(uses[stems])), shown[stems].text.casefold()))
    return [shown[stems] for stems in order]


def _compound(ranked: Sequence[_Phrase]) -> Iterator[str]:
    """Titles from best to worst; a phrase of one word is joined with the next best that shares none."""
    for position, phrase in enumerate(ranked[:20]):
        if len(phrase.stems) == 1:
            for other in ranked[position + 1 : position + 8]:
                if not set(other.stems) & set(phrase.stems) and other.words[0].lower not in _WEAK_WORDS:
                    yield _cased(f"{phrase.text} and {other.text}")
                    break
        yield _cased(phrase.text)


def _phrases(clause: Sequence[_Word]) -> Iterator[_Phrase]:
    for first, word in enumerate(clause):
        if not word.stem or word.lower.endswith("ly"):
            continue
        for last in range(first, min(first + _LONGEST_PHRASE, len(clause))):
            head = clause[last]
            if not head.stem:
                if head.lower not in _INSIDE:
                    break
                continue
            phrase = _Phrase(tuple(clause[first : last + 1]))
            if head.lower in _WEAK_WORDS or head.lower.endswith("ly"):
                continue
            if word.lower in _WEAK_WORDS and (last == first or clause[first + 1].stem is None):
                continue
            if len(set(phrase.stems)) == len(phrase.stems) and len(phrase.text) <= MAX_TITLE_CHARACTERS // 2:
                yield phrase


def _cased(text: str) -> str:
    """Sentence case that leaves names and acronyms as they are."""
    return text[0].upper() + text[1:]


def _opening_words(texts: Sequence[str]) -> str:
    """For a moment without any phrase of its own: how it begins."""
    opening = " ".join(" ".join(texts).split())
    if len(opening) > _OPENING_CHARACTERS:
        opening = opening[:_OPENING_CHARACTERS].rsplit(" ", 1)[0]
    return _cased(opening.strip(" ,;:.-!?") or "Moment")
