"""What a request may not ask for, and which models there are."""

import pytest

from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.models import registry
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
        FindOptions(**options)
    assert refused.value.hint


def test_each_role_has_its_builtin_model() -> None:
    assert registry.speech("builtin_speech").key == "builtin_speech"
    assert registry.finder("builtin_moments").key == "builtin_moments"
    assert registry.refiner("builtin_moments").watches_video is False
    assert registry.scorer("builtin_moments").key == "builtin_moments"


@pytest.mark.parametrize("role", [registry.speech, registry.finder, registry.refiner, registry.scorer])
def test_an_unknown_key_is_refused_with_the_known_ones(role) -> None:
    with pytest.raises(InvalidConfig, match="'nobody'") as refused:
        role("nobody")
    assert "builtin_" in refused.value.hint
