"""What a request may ask for. It is stored in `pipeline_requests.config`; what is left out comes from the settings."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.settings import QUEUE_NAME


class PipelineConfig(BaseModel):
    """Lengths and paddings are seconds. None means: the setting, or the model's own choice."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"max_moments": 8, "max_moment_length": 300, "focus": "advice for beginners"}},
    )

    title: str | None = Field(None, min_length=1, max_length=500, description="Title of the video")
    speech_model: str | None = Field(None, max_length=100, description="Registry key of the model that transcribes")
    generation_model: str | None = Field(None, max_length=100, description="Registry key of the model that finds")
    refinement_model: str | None = Field(None, max_length=100, description="Registry key of the model that refines")
    scoring_model: str | None = Field(None, max_length=100, description="Registry key of the model that scores")
    focus: str | None = Field(
        None, min_length=1, max_length=500, description="What to look for, in your words; for language models"
    )
    temperature: float | None = Field(None, ge=0, le=2, description="Of the models' choice of words; theirs if unset")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling of the models; theirs if unset")
    top_k: int | None = Field(None, ge=1, le=100_000, description="Top-k sampling of the models; theirs if unset")
    max_tokens: int | None = Field(None, ge=64, le=1_000_000, description="Longest answer of a model, tokens")
    cut_clips: bool | None = Field(
        None, description="Cut clips; unset: always, but for a remote refinement model that reads text only"
    )
    resume: bool | None = Field(
        None,
        description="Keep what the last run finished, and do only what it left undone; `videomoments retry` asks so",
    )
    moment: str | None = Field(
        None, pattern="^[0-9a-f]{16}$", description="This moment alone (pipeline types refinement_only, clips_only)"
    )
    queue: str | None = Field(
        None, pattern=f"^{QUEUE_NAME.pattern}$", description="Queue whose workers execute the run; `video` if unset"
    )
    min_moment_length: float = Field(15.0, ge=1, le=36_000, description="Shortest moment, seconds")
    max_moment_length: float = Field(600.0, ge=1, le=36_000, description="Longest moment, seconds")
    min_moments: int | None = Field(None, ge=0, le=1000, description="Fewest moments, where the talk has so many")
    max_moments: int | None = Field(None, ge=1, le=1000, description="Most moments")
    padding_left: float = Field(5.0, ge=0, le=120, description="Seconds of video kept before a moment in its clip")
    padding_right: float = Field(5.0, ge=0, le=120, description="Seconds of video kept after a moment in its clip")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_moment_length > self.max_moment_length:
            raise ValueError("min_moment_length is greater than max_moment_length")
        if self.min_moments is not None and self.max_moments is not None and self.min_moments > self.max_moments:
            raise ValueError("min_moments is greater than max_moments")
        return self

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "PipelineConfig":
        """Validate `values`, or raise InvalidConfig naming each field that is wrong."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors()]
            raise InvalidConfig("; ".join(faults) + ".", hint=f"Known keys: {', '.join(cls.model_fields)}.") from None

    @property
    def sampling(self) -> dict[str, float | int]:
        """What the request says of the models' choice of words: only what is set."""
        return self.model_dump(include={"temperature", "top_p", "top_k", "max_tokens"}, exclude_none=True)

    def as_json(self) -> dict[str, Any]:
        """Only what differs from the defaults, so that a later change of a default reaches old requests."""
        return self.model_dump(exclude_defaults=True)
