"""From recognized words to a transcript: what can't be speech is dropped, pauses make the sentences. Pure functions."""

from collections.abc import Sequence
from itertools import pairwise

from videomoments_dagster.moments.moment import Span
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word

# In speech, words fill 85 to 94 % of the sounding time (measured on five voices; 52 % in a word said alone); in music
# that was taken for words, 15 to 22 %. Noise gives single words that last for many seconds.
_LEAST_FILLED = 0.35
_AROUND_MS = 4_000
_LONGEST_WORD_MS = 2_000

# (longer than, pause that ends it), both ms: the longer a sentence has become, the shorter the pause that ends it.
# Speakers who read aloud pause for 550 ms and more, the recorded talk for 320 ms.
SENTENCE_PAUSES_MS = ((20_000, 0), (12_000, 100), (6_000, 250), (0, 450))


def transcript_of(words: Sequence[Word], runs: Sequence[Span]) -> Transcript:
    """The transcript of `words`, which were heard in `runs`; both sorted by start."""
    kept = _spoken(words, runs)
    return Transcript(words=tuple(kept), sentences=tuple(_sentence(part) for part in _sentences(kept)))


def _spoken(words: Sequence[Word], runs: Sequence[Span]) -> list[Word]:
    """The words in whose neighbourhood words fill enough of the sound to be speech.

    Repeated until nothing changes: a word must not stand on neighbours that fell themselves.
    """
    kept = [word for word in words if word.end_ms - word.start_ms <= _LONGEST_WORD_MS]
    while True:
        dense = _dense(kept, runs)
        if len(dense) == len(kept):
            return kept
        kept = dense


def _dense(words: Sequence[Word], runs: Sequence[Span]) -> list[Word]:
    dense: list[Word] = []
    first_word = first_run = 0
    for word in words:
        start, end = word.start_ms - _AROUND_MS, word.end_ms + _AROUND_MS
        while words[first_word].end_ms <= start:
            first_word += 1
        while runs[first_run].end_ms <= start:
            first_run += 1
        if _filled(words, first_word, start, end) >= _LEAST_FILLED * _filled(runs, first_run, start, end):
            dense.append(word)
    return dense


def _filled(items: Sequence[Word] | Sequence[Span], first: int, start: int, end: int) -> int:
    """How many ms of [start, end) the items from number `first` on take."""
    total = 0
    for number in range(first, len(items)):
        if items[number].start_ms >= end:
            break
        total += min(items[number].end_ms, end) - max(items[number].start_ms, start)
    return total


def _sentences(words: Sequence[Word]) -> list[Sequence[Word]]:
    """`words` cut at their longest pause, and the parts again, as long as a pause is long enough."""
    parts: list[Sequence[Word]] = []
    waiting = [words] if words else []
    while waiting:
        part = waiting.pop()
        place = _cut(part)
        if place:
            waiting += [part[place:], part[:place]]
        else:
            parts.append(part)
    return parts


def _cut(words: Sequence[Word]) -> int:
    """The place to cut before, or 0: the longest pause, if it is long enough for a sentence of this length."""
    if len(words) < 2:
        return 0
    pauses = [after.start_ms - before.end_ms for before, after in pairwise(words)]
    middle = len(words) / 2
    longest = max(range(len(pauses)), key=lambda at: (pauses[at], -abs(at + 1 - middle)))
    length = words[-1].end_ms - words[0].start_ms
    enough = next(pause for longer, pause in SENTENCE_PAUSES_MS if length >= longer)
    return longest + 1 if pauses[longest] >= enough else 0


def _sentence(words: Sequence[Word]) -> Sentence:
    """Written as a sentence, with a capital and a full stop: the recognizer hears no punctuation."""
    text = " ".join(word.text for word in words)
    return Sentence(text[:1].upper() + text[1:] + ".", words[0].start_ms, words[-1].end_ms)
