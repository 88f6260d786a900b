"""Single values as models write them: sentence numbers, times, scores. None for what can't be read."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_DURATION = re.compile(r"\b\d+(?:\.\d+)?\s*s(?:ec(?:onds?)?)?\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.])\d{1,9}(?!\d|\.\d)")
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{2}(?:[.,]\d{1,6})?)")
_SECONDS = re.compile(r"(\d{1,7}(?:\.\d{1,6})?)\s*(?:s|sec|secs|seconds?)?", re.IGNORECASE)
_SHARE = re.compile(r"(-?\d{1,6}(?:\.\d{1,6})?)\s*(?:/\s*(\d{1,4})|(%)|out of (\d{1,4}))?")
_LONGEST_SECONDS = 1_000_000.0


def keyed(value: Mapping[Any, Any]) -> dict[str, Any]:
    """The same with keys in one spelling: 'First Sentence' is `first_sentence`."""
    return {re.sub(r"[\s\-]+", "_", str(key).strip().lower()): item for key, item in value.items()}


def first_present(value: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What stands under the first of `keys` that is there and not null."""
    return next((value[key] for key in keys if value.get(key) is not None), None)


def whole_numbers(value: Any) -> list[int]:
    """The sentence numbers in 12, "12", "[12 4s]", "S12", "12.", "12-18", ["12", 18]; a duration is none of them."""
    if isinstance(value, Mapping):
        value = first_present(keyed(value), ("number", "id", "index", "sentence"))
    if isinstance(value, list | tuple):
        return [number for item in value for number in _numbers_in(item)]
    return _numbers_in(value)


def _numbers_in(value: Any) -> list[int]:
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [int(value)] if abs(value) < 10**9 and value == int(value) else []
    if not isinstance(value, str) or value.lstrip().startswith("-"):
        return []
    text = value[:200]
    return [int(n) for n in _NUMBER.findall(_DURATION.sub(" ", text)) or _NUMBER.findall(text)]


def is_time(value: Any) -> bool:
    """Whether it can only be meant as a time: a fraction, a clock, seconds with their unit."""
    if isinstance(value, float):
        return not value.is_integer()
    if not isinstance(value, str):
        return False
    text = value.strip()
    return bool(_CLOCK.fullmatch(text) or (_SECONDS.fullmatch(text) and not text.isdigit()))


def time_ms(value: Any) -> int | None:
    """Seconds as a number or text ("754.2", "754.2 s"), "MM:SS" or "HH:MM:SS", in ms."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        # compared first: rounding neither nan nor a number of 400 digits is possible
        return round(value * 1000) if 0 <= value <= _LONGEST_SECONDS else None
    if not isinstance(value, str):
        return None
    text = value.strip().strip("[]()")
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock.groups()
        return round(1000 * (int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))))
    if plain := _SECONDS.fullmatch(text):
        return time_ms(float(plain.group(1)))
    return None


def scores(values: Sequence[Any]) -> list[int | None]:
    """The scores of one answer as 0 to 10, on the scale that the largest of them tells.

    Up to 100 when one is above 10; up to 1 when none is above 1 and one is a fraction; else up to 10. "8/10" and
    "85%" say their own scale. What is below 0 or above 100 is no score.
    """
    read = [_share(value) for value in values]
    bare = [number for number, scale in (r for r in read if r) if scale is None and 0 <= number <= 100]
    highest = max(bare, default=0.0)
    fraction = highest <= 1 and any(not number.is_integer() for number in bare)
    usual = 100.0 if highest > 10 else 1.0 if fraction else 10.0
    return [None if r is None else _out_of_ten(r[0], r[1] or usual) for r in read]


def _share(value: Any) -> tuple[float, float | None] | None:
    """The number, and the scale it names itself."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return (float(value), None) if abs(value) <= 1e6 else None
    found = _SHARE.match(value.strip()) if isinstance(value, str) else None
    if not found:
        return None
    number, of, percent, out_of = found.groups()
    return float(number), 100.0 if percent else float(of or out_of or 0) or None


def _out_of_ten(number: float, scale: float) -> int | None:
    return math.floor(10 * number / scale + 0.5) if 0 <= number <= scale else None
