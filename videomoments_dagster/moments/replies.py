"""From what a chat model wrote to the JSON it meant: past its thinking, code fences, prose and broken brackets.

What the JSON must hold is for the caller; a value that it does not recognise is passed over.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_THINKING = re.compile(r"\s*<(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_MOST_OPENINGS = 400  # that lead nowhere
_MOST_REPAIRED_CHARACTERS = 15_000  # repairing takes quadratic time on some rubbish: 0.5 s for so many
_REMEMBERED = 32  # an answer is read when it comes and again when moments are derived from it
_UNFINISHED_NUMBER = re.compile(r"[\d.]+$")

Wanted = Callable[[Any], bool]


def read(answer: str, *wanted: Wanted) -> Any:
    """The JSON value that the answer gives, or None when there is none.

    `wanted` are tests for its shape, the best first: one for values that say something before one for those that may
    be empty, as models repeat the form they were given after they have answered. Of several values that suit equally
    the last is taken: models that correct themselves do it at the end. Thinking is not an answer, whatever it holds;
    nor is a number cut off at the end. The value is not to be changed.
    """
    text = answer.strip()
    whole = _strictly(text)
    if _first_of([whole], wanted) is not None:
        return whole
    text = _THOUGHT.split(text)[-1].strip()
    if _THINKING.match(text):
        return None  # it never came to an end
    loose = list(_values(text))
    sound = [_strictly(text), *(_strictly(fenced) for fenced in _FENCE.findall(text)), *loose]
    best, several = wanted[:1], [loose] if len(loose) > 1 else []
    found = _first_of(sound, best)
    if found is not None:
        return found
    repaired = _repaired(text, wanted)
    attempts = [(repaired, best), (several, wanted), (repaired, wanted), (sound, wanted)]
    if len(text) > _MOST_REPAIRED_CHARACTERS:  # repaired only in part: what is sound of it may be more
        attempts[:2] = reversed(attempts[:2])
    return next((value for values, tests in attempts if (value := _first_of(values, tests)) is not None), None)


def _first_of(values: list[Any], wanted: tuple[Wanted, ...]) -> Any:
    return next((value for test in wanted for value in reversed(values) if value is not None and test(value)), None)


def _strictly(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _values(text: str) -> Iterator[Any]:
    """Every complete JSON object and list in the text, none inside another."""
    decoder = json.JSONDecoder()
    opening, tried = _OPENING.search(text), 0
    while opening and tried < _MOST_OPENINGS:
        try:
            value, end = decoder.raw_decode(text, opening.start())
            yield value
        except (ValueError, RecursionError):
            end, tried = opening.start() + 1, tried + 1
        opening = _OPENING.search(text, end)


def _repaired(text: str, wanted: tuple[Wanted, ...]) -> list[Any]:
    """What the repair library makes of it, from the first bracket that may begin an object or a list of objects."""
    begin = re.search(r"[{\[]\s*[{\[\"'\w\]}]", text)
    if begin is None:
        return []
    broken = _UNFINISHED_NUMBER.sub("", text[begin.start() :][:_MOST_REPAIRED_CHARACTERS].rstrip())
    if broken.count("{") > broken.count(":"):  # an object has a colon: this is a model going round in circles
        return []
    value = _loosely(broken)
    several = isinstance(value, list) and not any(test(value) for test in wanted)
    return list(value) if several else [value]


@lru_cache(maxsize=_REMEMBERED)
def _loosely(broken: str) -> Any:
    import json_repair  # 60 ms to load, and most answers are sound

    try:
        return json_repair.loads(broken)
    except (ValueError, RecursionError):
        return None
