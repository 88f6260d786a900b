"""Windows: runs of whole sentences that fit a model's context, overlapping so that no moment falls between two.

Also here: how many tokens a text takes, estimated on the safe side, and shortening a text to fit.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from videomoments_dagster.moments.transcript import Sentence

LONGEST_MS = 2_400_000  # 40 minutes: models lose what stands in the middle of long contexts (Liu et al. 2023)
_LAST_MAY_EXCEED = 1.25
_WHOLE_TOKENS = re.compile(r"[\d\u0250-\U0010ffff]")
_LATIN_CHARACTERS_A_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Window:
    """Sentences [first, last), by index."""

    first: int
    last: int


def estimate_tokens(text: str) -> int:
    """Meant to be above what the tokenizers of today's models make of it; none is asked.

    Assumed, not measured: English takes about 4 characters a token in vocabularies of 100k and more, so Latin script
    is counted at 3 a token; digits (single tokens in some) and all other scripts at 1.
    """
    whole = len(_WHOLE_TOKENS.findall(text))
    return whole - (whole - len(text)) // _LATIN_CHARACTERS_A_TOKEN


def fitted(text: str, most_tokens: int) -> str:
    """The text, shortened in the middle until it takes at most `most_tokens`."""
    needed = estimate_tokens(text)
    length = len(text)
    while needed > most_tokens and length > 2:
        length = min(length - 1, int(length * most_tokens / needed))
        shown = f"{text[: length * 3 // 5]} \u2026 {text[len(text) - length * 2 // 5 :]}"
        needed = estimate_tokens(shown)
        if needed <= most_tokens:
            return shown
    return text if needed <= most_tokens else ""


def split(
    sentences: Sequence[Sentence], tokens: Sequence[int], room_tokens: int, longest_moment_ms: int
) -> tuple[Window, ...]:
    """Windows in order, covering all sentences; `tokens` says what each takes, none more than `room_tokens`.

    Each overlaps the next by as much as a moment of `longest_moment_ms` needs to lie whole in one of them, but by no
    more than half of itself: then a longer moment is cut by both, and joined again when they are merged.
    """
    spent = list(accumulate(tokens, initial=0))
    longest_ms = max(LONGEST_MS, 2 * longest_moment_ms)
    windows: list[Window] = []
    first = 0
    while first < len(sentences):
        last = _reach(sentences, spent, first, room_tokens, int(longest_ms * _LAST_MAY_EXCEED))
        if last < len(sentences):
            last = _reach(sentences, spent, first, room_tokens, longest_ms)
        windows.append(Window(first, last))
        if last == len(sentences):
            break
        begin_ms, end_ms = sentences[first].start_ms, sentences[last - 1].end_ms
        needed = bisect_left(sentences, sentences[last].end_ms - longest_moment_ms, first, last, key=_start)
        half = min(bisect_left(sentences, (begin_ms + end_ms) / 2, first, last, key=_start), last - 1)
        first = max(needed, half, first + 1)
        while _reach(sentences, spent, first, room_tokens, longest_ms) <= last:
            first += 1
    return tuple(windows)


def _start(sentence: Sentence) -> int:
    return sentence.start_ms


def _reach(sentences: Sequence[Sentence], spent: Sequence[int], first: int, room_tokens: int, longest_ms: int) -> int:
    """How far a window from `first` can go: at least one sentence."""
    by_room = bisect_left(spent, spent[first] + room_tokens + 1, first) - 1
    by_time = bisect_left(sentences, sentences[first].start_ms + longest_ms + 1, first, key=lambda s: s.end_ms)
    return max(first + 1, min(by_room, by_time))
