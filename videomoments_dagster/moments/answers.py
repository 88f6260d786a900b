"""What a chat model answered to a generation prompt: claims that a run of sentences is a moment. No merging, no times.

A claim says only which sentences; where those begin and end is known here and never taken from the model. Endpoints
that answer with times all the same are understood as meaning the sentences nearest to them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from videomoments_dagster.errors import ModelAnswerInvalid
from videomoments_dagster.moments import fields, prompts, replies
from videomoments_dagster.moments.plain import as_label, as_sentence
from videomoments_dagster.moments.transcript import Sentence
from videomoments_dagster.moments.windows import Window

TITLE_CHARACTERS = 120
REASON_CHARACTERS = 500
MOST_CLAIMS = 1_000

NOT_THERE = "they name sentences that the model was not shown"
BACKWARDS = "they end before they begin"
OUTSIDE = "their times lie outside what the model was shown"
UNREADABLE = "they do not say where they are"
TOO_MANY = f"an answer may hold {MOST_CLAIMS}"

_LISTS = ("moments", "segments", "chapters", "highlights", "clips", "topics", "results", "items")
_FIRST = ("first", "first_sentence", "start_sentence", "sentence_start", "first_line", "start_line", "start_index")
_LAST = ("last", "last_sentence", "end_sentence", "sentence_end", "last_line", "end_line", "end_index")
_RANGE = ("sentences", "sentence_range", "sentence_numbers", "range", "span", "lines", "sentence")
_START = ("start", "from", "begin")
_END = ("end", "to", "until")
_START_TIME = ("start_time", "start_seconds", "start_timestamp", "begin_time")
_END_TIME = ("end_time", "end_seconds", "end_timestamp", "stop_time")
_TITLE = ("title", "name", "headline", "heading", "topic", "label")
_REASON = ("reason", "why", "reasoning", "rationale", "justification", "explanation", "description", "summary")
_SCORE = ("score", "rating", "relevance", "relevance_score", "importance")
_PLACES = frozenset((*_FIRST, *_LAST, *_RANGE, *_START, *_END, *_START_TIME, *_END_TIME))


@dataclass(frozen=True, slots=True)
class Claim:
    """That sentences [first, last), by index, are a moment. `title` and `reason` may be empty, `score` None.

    `cut_before` and `cut_after`: it reaches to the edge of what the model was shown, and may go on beyond.
    """

    first: int
    last: int
    title: str = ""
    score: int | None = None
    reason: str = ""
    cut_before: bool = False
    cut_after: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of one answer, and how many items were left out for which cause."""

    claims: tuple[Claim, ...]
    left_out: Counter[str] = field(default_factory=Counter)


def items_of(answer: str) -> list[dict[str, Any]]:
    """The items of the answer's list of moments; empty when it says that there are none.

    Raises ModelAnswerInvalid when there is no such list, or none of what stands in it is an item.
    """
    value = replies.read(answer, _holds_moments, _lists_moments, _says_moments, _is_list_of_items, _is_item)
    if value is None:
        what = answer.strip()[:120]
        raise ModelAnswerInvalid(f"The model's answer holds no list of moments: {what!r}." if what else _EMPTY)
    listed = _listed(value)
    items = [fields.keyed(item) for item in listed if _is_item(item)]
    if listed and not items:
        raise ModelAnswerInvalid("The model's list of moments does not say where any of them is.")
    return items


_EMPTY = "The model's answer is empty; it may have spent all its tokens on thinking."


def claims_of(answer: str, window: Window, sentences: Sequence[Sentence]) -> Claims:
    """The claims in an answer about `window`. Items that cannot be used are counted in `left_out`.

    Sentences that the model was not shown are no claim, except for being off by one at an edge of the window. Raises
    ModelAnswerInvalid when it holds no list of moments or nothing in the list says where a moment is.
    """
    items = items_of(answer)
    left_out: Counter[str] = Counter()
    if len(items) > MOST_CLAIMS:
        left_out[TOO_MANY] = len(items) - MOST_CLAIMS
    scores = fields.scores([fields.first_present(item, _SCORE) for item in items[:MOST_CLAIMS]])
    claims: list[Claim] = []
    for item, score in zip(items, scores, strict=False):
        place = _place(item, window, sentences)
        if isinstance(place, str):
            left_out[place] += 1
            continue
        title, reason = (_text(fields.first_present(item, keys)) for keys in (_TITLE, _REASON))
        claims.append(Claim(*place, as_label(title, TITLE_CHARACTERS), score, as_sentence(reason, REASON_CHARACTERS)))
    return Claims(tuple(claims), left_out)


def _listed(value: Any) -> list[Any]:
    """What may be items, whichever way they are put together."""
    listed = _moments_of(value) if isinstance(value, Mapping) and not _is_item(value) else value
    if isinstance(listed, Mapping):
        return [listed] if _is_item(listed) else list(listed.values())
    return listed or []


def _holds_moments(value: Any) -> bool:
    return _says_moments(value) and any(map(_is_own, _listed(value)))


def _lists_moments(value: Any) -> bool:
    return isinstance(value, list) and any(map(_is_own, value))


def _is_own(item: Any) -> bool:
    """An item, and not the one that shows the form in the prompt."""
    return _is_item(item) and fields.first_present(fields.keyed(item), _TITLE) != prompts.PLACEHOLDER


def _says_moments(value: Any) -> bool:
    return isinstance(value, Mapping) and not _is_item(value) and _moments_of(value) is not _NOTHING


def _is_list_of_items(value: Any) -> bool:
    return isinstance(value, list) and (not value or any(_is_item(item) for item in value))


def _is_item(value: Any) -> bool:
    return isinstance(value, Mapping) and not _PLACES.isdisjoint(fields.keyed(value))


_NOTHING: Any = object()


def _moments_of(value: Mapping[str, Any]) -> Any:
    """What stands under the list's key, here or one level down; `_NOTHING` when it is nowhere."""
    for level in (value, *(inner for inner in value.values() if isinstance(inner, Mapping))):
        named = fields.keyed(level)
        for key in _LISTS:
            if key in named and (named[key] is None or isinstance(named[key], list | Mapping)):
                return named[key]
    return next((inner for inner in value.values() if inner and _is_list_of_items(inner)), _NOTHING)


def _place(item: Mapping[str, Any], window: Window, sentences: Sequence[Sentence]) -> tuple[int, int] | str:
    """Sentences [first, last), or why it is none."""
    start, end = fields.first_present(item, _FIRST), fields.first_present(item, _LAST)
    if start is None and end is None:
        start, end = fields.first_present(item, _START), fields.first_present(item, _END)
        if fields.is_time(start) or fields.is_time(end):
            return _place_of_times(start, end, window, sentences)
    if start is None and end is None:
        start = end = fields.first_present(item, _RANGE)
    if start is None and end is None:
        times = fields.first_present(item, _START_TIME), fields.first_present(item, _END_TIME)
        return _place_of_times(*times, window, sentences)
    firsts, lasts = fields.whole_numbers(start), fields.whole_numbers(end)
    if end is None and len(firsts) > 1:
        lasts = firsts
    if not firsts or not lasts:
        return UNREADABLE
    return _checked(_shown(firsts[0], window), _shown(lasts[-1], window))


def _shown(number: int, window: Window) -> int | None:
    """The index of a sentence by its number; the nearest when it is off by one."""
    if number in (window.first, window.last + 1):
        return min(max(number - 1, window.first), window.last - 1)
    return number - 1 if window.first < number <= window.last else None


def _checked(first: int | None, last: int | None) -> tuple[int, int] | str:
    if first is None or last is None:
        return NOT_THERE
    return BACKWARDS if last < first else (first, last + 1)


def _place_of_times(start: Any, end: Any, window: Window, sentences: Sequence[Sentence]) -> tuple[int, int] | str:
    """The sentences whose beginning and whose end are nearest."""
    start_ms, end_ms = fields.time_ms(start), fields.time_ms(end)
    if start_ms is None or end_ms is None:
        return UNREADABLE
    earliest_ms, latest_ms = sentences[window.first].start_ms, sentences[window.last - 1].end_ms
    # clocks are shown in whole seconds
    if min(start_ms, end_ms) < earliest_ms - 1000 or max(start_ms, end_ms) > latest_ms + 1000:
        return OUTSIDE
    if end_ms <= start_ms:
        return BACKWARDS
    first = _nearest([s.start_ms for s in sentences[window.first : window.last]], start_ms)
    last = _nearest([s.end_ms for s in sentences[window.first : window.last]], end_ms)
    return _checked(window.first + first, window.first + last)


def _nearest(times_ms: Sequence[int], at_ms: int) -> int:
    after = bisect_left(times_ms, at_ms)
    near = range(max(0, after - 1), min(after + 1, len(times_ms)))
    return min(near, key=lambda k: (abs(times_ms[k] - at_ms), k))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
