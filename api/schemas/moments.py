"""Moments as a person makes and changes them. Times are seconds of the source video."""

import unicodedata
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from api.schemas.base import Input

_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, separators of lines and paragraphs


def _printable(title: str) -> str:
    if any(unicodedata.category(character) in _UNPRINTABLE for character in title):
        raise ValueError("must be one line, without control characters")
    return title


def _no_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500),
    AfterValidator(_printable),
    Field(description="One line of text"),
]
Seconds = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="Seconds of the video, kept to the millisecond"),
    AfterValidator(lambda seconds: round(seconds, 3)),
]


class NewMoment(Input):
    model_config = ConfigDict(
        json_schema_extra={"example": {"title": "Why small steps work", "start_time": 61.2, "end_time": 98.7}}
    )

    title: Title
    start_time: Seconds
    end_time: Seconds


class MomentChange(Input):
    """What is left out stays as it is; at least one is needed, and none can be null."""

    model_config = ConfigDict(json_schema_extra={"example": {"end_time": 101.5}, "minProperties": 1})

    title: Title = Field("", json_schema_extra=_no_default)
    start_time: Seconds = Field(0.0, json_schema_extra=_no_default)
    end_time: Seconds = Field(0.0, json_schema_extra=_no_default)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("says nothing to change: give title, start_time or end_time")
        return self

    @property
    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)
