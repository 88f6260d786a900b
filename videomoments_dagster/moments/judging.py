"""Scores of moments from a chat model: the questions to put to it, and what follows from its answers. No model here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videomoments_dagster.errors import ModelAnswerInvalid
from videomoments_dagster.moments import fields, replies
from videomoments_dagster.moments.moment import FoundMoment, Prompt, Score
from videomoments_dagster.moments.plain import as_sentence, as_speech
from videomoments_dagster.moments.prompts import DATA_NOT_INSTRUCTIONS, PLACEHOLDER, closed_object, duration, fenced
from videomoments_dagster.moments.transcript import Transcript, overlapping
from videomoments_dagster.moments.windows import estimate_tokens, fitted

SCORING_PROMPT = Prompt(
    "You rate moments of recordings: how much each is worth watching on its own, from what is said in it. You answer "
    "with JSON and nothing else. " + DATA_NOT_INSTRUCTIONS,
    """Rate each of these moments from 0 to 10:
0 to 2: greetings, housekeeping, talk that leads nowhere, or not to be understood without what came before;
3 to 5: of some use to those who follow the subject;
6 to 8: tells something worth knowing, clearly, from its beginning to its point;
9 and 10: what one would send to a friend. Rare.
Use the whole scale: the moments of one recording differ. A long moment is not better for being long.

Each moment is its number and length in brackets, its title, and what is said in it; "…" stands where some was left out.

{moments}

Answer with one JSON object of this form, with every number from the brackets once:
{"scores": [{"number": 1, "score": 7, "reason": "..."}]}
reason: one sentence that says what decided.""",
)
"""For the prompts table: with {moments} where the moments go."""

_SCORE_FIELDS: dict[str, dict[str, Any]] = {
    "number": {"type": "integer"},
    "score": {"type": "integer"},
    "reason": {"type": "string"},
}
SCORES_SCHEMA = closed_object({"scores": {"type": "array", "items": closed_object(_SCORE_FIELDS)}})
"""For `response_format`: the answer to a scoring prompt."""

_PLACE = "{moments}"
_MOST_IN_ONE = 20  # with more, models begin to give them all the same
_MOST_TOKENS = 1_200  # of one moment: five minutes of speech
_LEAST_TOKENS = 64
_LISTS = frozenset({"scores", "moments", "ratings", "results"})
_NUMBER = ("number", "id", "moment", "index", "moment_number", "n")
_SCORE = ("score", "rating", "value")
_REASON = ("reason", "why", "reasoning", "rationale", "explanation")
_NO_REASON = "The model gave no reason."
_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """Moments to be scored together: their numbers, from 1 in the order given, and the user's part of the prompt."""

    numbers: tuple[int, ...]
    question: str


def questions(moments: Sequence[FoundMoment], transcript: Transcript, budget_tokens: int) -> list[Batch]:
    """Batches of moments, each at most about `budget_tokens` with the prompt; long moments are shortened inside."""
    around = estimate_tokens(SCORING_PROMPT.system) + estimate_tokens(SCORING_PROMPT.user)
    room = max(_LEAST_TOKENS, budget_tokens - around)
    most = min(_MOST_TOKENS, room)
    batches: list[list[tuple[int, str]]] = []
    spent = room + 1
    for number, moment in enumerate(moments, 1):
        said = " ".join(s.text for s in overlapping(transcript.sentences, moment.start_ms, moment.end_ms))
        length = duration(moment.end_ms - moment.start_ms)
        line = fitted(f"[{number} {length}] {as_speech(moment.title)}: {as_speech(said)}", most - 1)
        tokens = estimate_tokens(line) + 1
        if spent + tokens > room or len(batches[-1]) == _MOST_IN_ONE:
            batches.append([])
            spent = 0
        batches[-1].append((number, line))
        spent += tokens
    return [
        Batch(
            tuple(number for number, _ in batch),
            SCORING_PROMPT.user.replace(_PLACE, fenced(line for _, line in batch), 1),
        )
        for batch in batches
    ]


def scores(answer: str, numbers: Collection[int]) -> dict[int, Score]:
    """The scores in the answer to one batch, by number; numbers that were not asked for are passed over.

    Raises ModelAnswerInvalid when it scores none of them.
    """
    value = replies.read(answer, _holds_own_scores, _holds_scores, _is_list, _is_scores)
    items = [
        (number, fields.first_present(item, _SCORE), fields.first_present(item, _REASON))
        for number, item in _items(value)
        if number in numbers
    ]
    rated = fields.scores([score for _, score, _ in items])
    found = {
        number: Score(value, (as_sentence(reason, _REASON_CHARACTERS) if isinstance(reason, str) else "") or _NO_REASON)
        for (number, _, reason), value in zip(items, rated, strict=True)
        if value is not None
    }
    if not found:
        raise ModelAnswerInvalid(f"The model's answer scores none of the moments: {answer.strip()[:120]!r}.")
    return found


def usable(answer: str, numbers: Collection[int]) -> bool:
    """Whether the answer scores any of these moments."""
    try:
        scores(answer, numbers)
    except ModelAnswerInvalid:
        return False
    return True


def _holds_own_scores(value: Any) -> bool:
    """And not the form that the prompt shows."""
    return _holds_scores(value) and any(fields.first_present(item, _REASON) != PLACEHOLDER for _, item in _items(value))


def _holds_scores(value: Any) -> bool:
    return _is_scores(value) and not _LISTS.isdisjoint(fields.keyed(value))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(_items(value))


def _is_scores(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(_items(value))


def _items(value: Any) -> list[tuple[int, dict[str, Any]]]:
    """(number, fields) of each score, in whichever form: a list, one score, or {"1": 7, "2": {"score": ..}}."""
    if isinstance(value, list):
        return [pair for item in value if isinstance(item, Mapping) for pair in _numbered(fields.keyed(item))]
    if not isinstance(value, Mapping):
        return []
    named = fields.keyed(value)
    for key in sorted(_LISTS & named.keys()):
        if isinstance(named.get(key), list | Mapping):
            return _items_by_number(named[key]) if isinstance(named[key], Mapping) else _items(named[key])
    return _numbered(named) or _items_by_number(value)


def _items_by_number(value: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    pairs: list[tuple[int, dict[str, Any]]] = []
    for key, item in value.items():
        numbers = fields.whole_numbers(str(key))
        if numbers and isinstance(item, Mapping):
            pairs.append((numbers[0], fields.keyed(item)))
        elif numbers and isinstance(item, int | float | str):
            pairs.append((numbers[0], {"score": item}))
    return pairs


def _numbered(item: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    numbers = fields.whole_numbers(fields.first_present(item, _NUMBER))
    return [(numbers[0], item)] if numbers and fields.first_present(item, _SCORE) is not None else []
