"""Where the sentences of the calibration clip stand in what a recognizer heard, found by their words alone.

By time would be begging the question. A quarter of the words may be misheard, and any number heard in silences.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from videomoments_dagster.models.calibration_fit import Pair
from videomoments_dagster.models.calibration_media import Shown
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word

_LEAST_SHARE = 0.5  # of a sentence's words: chance matches stay below a third
_SLACK_WORDS = 2  # a word heard as two, or one too many
_TOKEN = re.compile(r"[a-z0-9']+")


@dataclass(frozen=True, slots=True)
class _Token:
    """A heard word. Of a longer text with one pair of times, only the first has a start and only the last an end."""

    text: str
    start_ms: int | None
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Heard:
    """How many sentences were heard, and a pair for each of their edges whose word was heard rightly."""

    sentences: int
    pairs: tuple[Pair, ...]


def hear(spoken: Sequence[Shown], transcript: Transcript) -> Heard:
    tokens = _tokens(transcript.words or transcript.sentences)
    pairs, heard = [], 0
    for sentence in spoken:
        true = _TOKEN.findall(sentence.text.lower())
        matched = _best(true, tokens)
        if len(matched) < _LEAST_SHARE * len(true):
            continue
        heard += 1
        first, last = matched.get(0), matched.get(len(true) - 1)
        if first is not None and first.start_ms is not None:
            pairs.append(Pair(sentence.place, sentence.start_seconds, first.start_ms / 1000))
        if last is not None and last.end_ms is not None:
            pairs.append(Pair(sentence.place, sentence.end_seconds, last.end_ms / 1000))
    return Heard(heard, tuple(pairs))


def _tokens(items: Sequence[Word] | Sequence[Sentence]) -> list[_Token]:
    found = []
    for item in items:
        texts = _TOKEN.findall(item.text.lower())
        for number, text in enumerate(texts):
            start = item.start_ms if number == 0 else None
            end = item.end_ms if number == len(texts) - 1 else None
            found.append(_Token(text, start, end))
    return found


def _best(true: Sequence[str], heard: Sequence[_Token]) -> dict[int, _Token]:
    """By the number of a true word, the heard token it matches, in the stretch where most do."""
    known, length = set(true), len(true)
    hits = [token.text in known for token in heard]
    counts = [sum(hits[first : first + length]) for first in range(len(hits))]
    best: dict[int, _Token] = {}
    for first in range(len(heard)):
        if counts[first] < max(len(best), _LEAST_SHARE * length):
            continue
        stretch = heard[max(0, first - _SLACK_WORDS) : first + length + _SLACK_WORDS]
        matcher = SequenceMatcher(None, true, [token.text for token in stretch], autojunk=False)
        matched = {
            block.a + step: stretch[block.b + step]
            for block in matcher.get_matching_blocks()
            for step in range(block.size)
        }
        if len(matched) > len(best):
            best = matched
    return best
