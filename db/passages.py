"""A transcript cut into passages: what search looks in, ranks and shows. Some 60 words each, cut where sentences end.

Pure: no session. `db/queries/transcripts.py` writes them with the transcript, revision 0005 for those there were.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_WORDS = 40
MOST_WORDS = 80
_SENTENCE_ENDS = (".", "?", "!", "\u3002", "\uff1f", "\uff01")  # the last three: Chinese and Japanese


@dataclass(frozen=True, slots=True)
class Passage:
    """`text` has one word for each of `word_starts_ms`, with one space between two; times are of the video's clock."""

    number: int
    start_time: float
    end_time: float
    text: str
    word_starts_ms: list[int]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start_ms: int
    end_ms: int


def cut(words: Sequence[Mapping[str, Any]], segments: Sequence[Mapping[str, Any]], full_text: str) -> list[Passage]:
    """The passages of `[{word, start, end}]` and `[{text, start, end}]`, in seconds.

    Without words, every word of a segment has the segment's times; with neither, all of `full_text` is at 0.
    """
    if words:
        tokens = list(_tokens(words, "word"))
    else:
        tokens = list(_tokens(segments or [{"text": full_text, "start": 0.0, "end": 0.0}], "text"))
    starts = {_ms(segment.get("start")) for segment in segments}
    passages: list[Passage] = []
    held: list[_Token] = []
    for token in tokens:
        begins = token.start_ms in starts or (bool(held) and held[-1].text.endswith(_SENTENCE_ENDS))
        if len(held) >= MOST_WORDS or (len(held) >= LEAST_WORDS and begins):
            passages.append(_passage(len(passages), held))
            held = []
        held.append(token)
    if held:
        passages.append(_passage(len(passages), held))
    return passages


def _tokens(items: Iterable[Mapping[str, Any]], key: str) -> Iterable[_Token]:
    """A recognizer's word may hold spaces, and a segment does: each part is a word of the same times. NUL is nothing
    that PostgreSQL stores."""
    for item in items:
        start_ms = _ms(item.get("start"))
        end_ms = max(start_ms, _ms(item.get("end")))
        for part in str(item[key]).replace("\0", " ").split():
            yield _Token(part, start_ms, end_ms)


def _passage(number: int, tokens: Sequence[_Token]) -> Passage:
    return Passage(
        number,
        min(token.start_ms for token in tokens) / 1000,
        max(token.end_ms for token in tokens) / 1000,
        " ".join(token.text for token in tokens),
        [token.start_ms for token in tokens],
    )


def _ms(seconds: Any) -> int:
    """At least 0: times may be missing, and an integer of PostgreSQL holds 24 days."""
    return min(max(0, round(float(seconds or 0) * 1000)), 2**31 - 1)
