"""What a request may not ask of a finder."""

import pytest

from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.moments.moment import FindOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_length_ms": 0}, "minimum length"),
        ({"min_length_ms": 2, "max_length_ms": 1}, "below the minimum length"),
        ({"min_moments": -1}, "minimum number"),
        ({"max_moments": 0}, "maximum number"),
        ({"min_moments": 3, "max_moments": 2}, "below the minimum"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message) as refused:
        FindOptions(**options)  # pyright: ignore[reportArgumentType]  # numbers only
    assert refused.value.hint
