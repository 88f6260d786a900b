"""What a request may ask for."""

import pytest

from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.requests.config import PipelineConfig


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"max_moment": 3}, "max_moment"),
        ({"max_moments": "many"}, "max_moments"),
        ({"min_moment_length": 0}, "min_moment_length"),
        ({"min_moment_length": 60, "max_moment_length": 30}, "min_moment_length is greater"),
        ({"min_moments": 5, "max_moments": 2}, "min_moments is greater"),
        ({"padding_left": -1}, "padding_left"),
        ({"padding_left": float("nan")}, "padding_left"),
        ({"title": ""}, "title"),
    ],
)
def test_a_wrong_field_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        PipelineConfig.parse(values)
    assert named in caught.value.message
    assert "max_moments" in caught.value.hint


def test_only_what_was_asked_is_stored() -> None:
    assert PipelineConfig.parse({"max_moments": 3, "padding_left": 5.0}).as_json() == {"max_moments": 3}
    assert PipelineConfig.parse(PipelineConfig.parse({"title": "A"}).as_json()).title == "A"
