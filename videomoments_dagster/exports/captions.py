"""Captions cut from word times: cues short enough to read, that break where speech does. Times in milliseconds.

The numbers are those of Netflix's Timed Text Style Guide (general requirements, and English: 42 characters a line, two
lines, 20 characters a second, 5/6 to 7 seconds, two frames between cues); the order of breaks follows the BBC's
Subtitle Guidelines: at the end of a sentence, of a clause, at a pause, and otherwise evenly.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from videomoments_dagster.exports.moment_set import one_line

LINE_WIDTH = 42.0
MOST_LINES = 2
WIDTH_PER_SECOND = 20.0
SHORTEST_MS = 833
LONGEST_MS = 7_000
GAP_MS = 80  # two frames at 25 a second
_PAUSE_MS = 1_500  # nobody waits that long for the rest of a cue
_WIDE = LINE_WIDTH / 16  # a full-width character: Netflix allows 16 a line in Chinese and Korean
_WORD_MS = 300  # a word whose end is not known

_SENTENCE_ENDS = tuple(".?!\u2026\u3002\uff01\uff1f\u061f\u0964")
_CLAUSE_ENDS = tuple(",;:\u2013\u2014\u3001\uff0c\uff1b\uff1a\u060c")
_CLOSING = "\"'\u2019\u201d\u00bb)]\u300d\u300f"
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "FULLWIDTH", "IDEOGRAPHIC")


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Cue:
    """`lines`: one or two. It ends after it starts, and not after the next one starts."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def words_of(
    words: Iterable[Mapping[str, Any]],
    segments: Iterable[Mapping[str, Any]],
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> list[Word]:
    """The words said between two times of the video, with times counted from the first.

    `[{word, start, end}]`, or when there are none `[{text, start, end}]`: a segment's words share its time by their
    lengths. Times that are missing, backwards or overlapping are put right from the words around.
    """
    found = _timed(words) or [part for segment in _timed(segments, key="text") for part in _shared(segment)]
    first, last = round(start_seconds * 1000), None if end_seconds is None else round(end_seconds * 1000)
    return [
        Word(
            word.text, max(0, word.start_ms - first), (word.end_ms if last is None else min(word.end_ms, last)) - first
        )
        for word in found
        if word.end_ms > first and (last is None or word.start_ms < last)
    ]


def to_cues(words: Sequence[Word]) -> list[Cue]:
    """The cues of `words`, which are in order, end after they start and do not overlap."""
    groups = [cue for sentence in _sentences(_narrow(words)) for cue in _split(sentence)]
    return _times(_merged(groups))


def _timed(items: Iterable[Mapping[str, Any]], key: str = "word") -> list[Word]:
    """In order of their starts, each at least a millisecond long and ending no later than the next starts."""
    given: list[tuple[int, int | None, str]] = []
    latest = 0
    for item in items:
        text = one_line(str(item.get(key) or ""))
        start, end = _ms(item.get("start")), _ms(item.get("end"))
        if start is None:
            start = latest
        if text:
            given.append((start, end, text))
            latest = max(start, end or start)
    given.sort(key=lambda each: each[0])
    words: list[Word] = []
    for position, (said, ended, text) in enumerate(given):
        start = max(said, words[-1].start_ms + 1 if words else 0)
        end = ended if ended is not None and ended > start else start + _WORD_MS
        following = given[position + 1][0] if position + 1 < len(given) else end
        words.append(Word(text, start, max(start + 1, min(end, max(following, start + 1)))))
    return words


def _shared(segment: Word) -> list[Word]:
    """A segment's words, each with its part of the segment's time."""
    return _pieces(segment, segment.text.split())


def _pieces(whole: Word, texts: Sequence[str]) -> list[Word]:
    total = sum(map(len, texts)) or 1
    length, passed, pieces = whole.end_ms - whole.start_ms, 0, list[Word]()
    for text in texts:
        start = whole.start_ms + length * passed // total
        passed += len(text)
        pieces.append(Word(text, start, max(start + 1, whole.start_ms + length * passed // total)))
    return pieces


def _narrow(words: Sequence[Word]) -> list[Word]:
    """Recognizers give languages without spaces as one word a sentence: a word that no line holds is cut between its
    characters where the script allows that. Words of other scripts are never cut."""
    narrow: list[Word] = []
    for word in words:
        if _width(word.text) > LINE_WIDTH and sum(map(_is_unspaced, word.text)) * 2 > len(word.text):
            narrow += _pieces(word, _chopped(word.text))
        else:
            narrow.append(word)
    return narrow


def _chopped(text: str) -> list[str]:
    """Pieces after punctuation, or of four characters; combining marks stay with what they belong to."""
    pieces = [""]
    for character in text:
        joins = unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Mc", "Po", "Pe", "Pf"}
        if not joins and (len(pieces[-1]) >= 4 or pieces[-1].endswith(_SENTENCE_ENDS + _CLAUSE_ENDS)):
            pieces.append("")
        pieces[-1] += character
    return pieces


def _sentences(words: Sequence[Word]) -> list[list[Word]]:
    sentences: list[list[Word]] = []
    for word in words:
        if not sentences or _ends(sentences[-1][-1], _SENTENCE_ENDS) or _pause(sentences[-1][-1], word) >= _PAUSE_MS:
            sentences.append([])
        sentences[-1].append(word)
    return sentences


def _split(words: Sequence[Word]) -> list[list[Word]]:
    """A sentence in as few cues as hold it, cut at clauses and pauses before elsewhere."""
    groups: list[list[Word]] = []
    first = 0
    while first < len(words):
        last = first + 1
        while last < len(words) and _fits(words[first : last + 1]):
            last += 1
        if last < len(words):
            places = range(first + max(1, (last - first) // 2), last + 1)
            last = max(places, key=lambda place: (_break_value(words[place - 1], words[place]), place))
        groups.append(list(words[first:last]))
        first = last
    return groups


def _break_value(before: Word, after: Word) -> int:
    pause = min(_pause(before, after), 1_000) // 100
    return pause + (10 if _ends(before, _CLAUSE_ENDS) else 0)


def _merged(groups: Sequence[list[Word]]) -> list[list[Word]]:
    """A group that is too short to be read is shown with what is said right before, or after it."""
    merged: list[list[Word]] = []
    for group in groups:
        if merged and _pause(merged[-1][-1], group[0]) < _PAUSE_MS:
            short = min(_spoken_ms(merged[-1]), _spoken_ms(group)) < SHORTEST_MS
            if short and _fits(merged[-1] + group):
                merged[-1] = merged[-1] + group
                continue
        merged.append(list(group))
    return merged


def _times(groups: Sequence[list[Word]]) -> list[Cue]:
    """Each from its first word on, for as long as it is spoken and as reading takes where silence follows."""
    cues: list[Cue] = []
    for position, group in enumerate(groups):
        start, end = group[0].start_ms, group[-1].end_ms
        reading = round(_width(_joined(group)) / WIDTH_PER_SECOND * 1000)
        end = max(end, start + min(LONGEST_MS, max(SHORTEST_MS, reading)))
        if len(group) == 1:
            end = min(end, start + LONGEST_MS)  # a recognizer's word may last for minutes
        if position + 1 < len(groups):
            following = groups[position + 1][0].start_ms
            end = max(min(end, following - GAP_MS), min(following, start + GAP_MS))
        cues.append(Cue(start, end, _lines(group)))
    return cues


def _fits(words: Sequence[Word]) -> bool:
    """Whether a cue may hold them: the lines that `_lines` makes are narrow enough."""
    if words[-1].end_ms - words[0].start_ms > LONGEST_MS:
        return False
    ends = [_width(words[0].text)]  # where each word ends, on one long line
    for before, after in pairwise(words):
        ends.append(ends[-1] + _space(before.text, after.text) + _width(after.text))
    upper = max((place for place, end in enumerate(ends) if end <= LINE_WIDTH), default=-1)
    if upper < 0 or upper == len(words) - 1:
        return upper >= 0
    below = ends[-1] - ends[upper] - _space(words[upper].text, words[upper + 1].text)
    return below <= LINE_WIDTH


def _lines(words: Sequence[Word]) -> tuple[str, ...]:
    """One line where it fits, else two: broken after a clause, else the most evenly, the lower one rather longer."""
    whole = _joined(words)
    if len(words) == 1 or _width(whole) <= LINE_WIDTH:
        return (whole,)
    best: tuple[float, tuple[str, str]] | None = None
    for place in range(1, len(words)):
        upper, lower = _joined(words[:place]), _joined(words[place:])
        above, below = _width(upper), _width(lower)
        cost = abs(below - above) + (0.5 if above > below else 0) - (12 if _ends(words[place - 1], _CLAUSE_ENDS) else 0)
        cost += 1000 * max(0.0, above - LINE_WIDTH, below - LINE_WIDTH)
        if best is None or cost < best[0]:
            best = (cost, (upper, lower))
    return best[1] if best else (whole,)


def _joined(words: Sequence[Word]) -> str:
    text = words[0].text
    for before, after in pairwise(words):
        text += " " * _space(before.text, after.text) + after.text
    return text


def _space(before: str, after: str) -> int:
    """One space between two words, and none between two characters of scripts that have none."""
    return 0 if _is_unspaced(before[-1]) and _is_unspaced(after[0]) else 1


@lru_cache(maxsize=20_000)
def _width(text: str) -> float:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else _WIDE if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _is_unspaced(character: str) -> bool:
    return ord(character) > 0x0DFF and unicodedata.name(character, "").startswith(_UNSPACED)


def _ends(word: Word, marks: tuple[str, ...]) -> bool:
    return word.text.rstrip(_CLOSING).endswith(marks)


def _pause(before: Word, after: Word) -> int:
    return after.start_ms - before.end_ms


def _spoken_ms(words: Sequence[Word]) -> int:
    return words[-1].end_ms - words[0].start_ms


def _ms(seconds: Any) -> int | None:
    return None if seconds is None else max(0, round(float(seconds) * 1000))
