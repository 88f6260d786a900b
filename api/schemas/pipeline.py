"""The pipeline of a video: starting it, following it, cancelling it."""

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Input, Output
from api.schemas.webhooks import WebhookInput
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType, Stage
from videomoments_dagster.requests.status import PipelineStatus

ERROR_EXAMPLE = {
    "stage": "VIDEO_DOWNLOAD",
    "code": "source_not_found",
    "message": "https://example.org/motivation.mp4: the server answers 404.",
    "hint": "Open the URL in a browser.",
    "retryable": False,
}


FAILED_STAGE_EXAMPLE = {
    "stage": "VIDEO_DOWNLOAD",
    "status": "failed",
    "started_at": "2026-01-01T12:00:01Z",
    "completed_at": "2026-01-01T12:00:20Z",
    "progress": 0.0,
    "error": ERROR_EXAMPLE,
}


class StartPipeline(WebhookInput):
    """`video_id` is needed where the path does not say it."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"pipeline_type": "moments_only", "config": {"max_moments": 5}}}
    )

    video_id: str | None = Field(None, max_length=100, description="The video's identifier")
    pipeline_type: PipelineType = PipelineType.FULL
    config: PipelineConfig = PipelineConfig.model_validate({})


class RefineMoment(Input):
    """What to do otherwise than the newest request of the video said."""

    model_config = ConfigDict(json_schema_extra={"example": {"config": {"refinement_model": "qwen3_vl_fp8"}}})

    config: PipelineConfig = PipelineConfig.model_validate({})


class Started(Output):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "video_id": "motivation",
                "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
                "pipeline_type": "moments_only",
                "status_url": "/api/pipeline/motivation/status",
            }
        }
    )

    video_id: str
    request_id: str
    pipeline_type: PipelineType
    status_url: str


class Cancelling(Output):
    """`request_id` is a run's id when it was started in the Dagster UI."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "video_id": "motivation",
                "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
                "status_url": "/api/pipeline/motivation/status",
            }
        }
    )

    video_id: str
    request_id: str
    status_url: str


class StageError(Output):
    """`code` is for programs, `message` and `hint` for people."""

    stage: str | None
    code: str
    message: str
    hint: str
    retryable: bool


class StageState(Output):
    stage: Stage
    status: Literal["pending", "running", "completed", "failed", "skipped"]
    started_at: datetime | None
    completed_at: datetime | None
    progress: float = Field(ge=0, le=1)
    error: StageError | None


class Status(Output):
    """The newest request of a video. `reason` says why a completed run has no moments; `queue_position` is 1 for the
    request that is taken up next, and null when it is not queued."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "video_id": "motivation",
                "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
                "run_id": "0b1d5a52-53d3-4a0b-8d2c-9f2a1c0b7e11",
                "pipeline_type": "full",
                "status": "failed",
                "queued_at": "2026-01-01T11:59:58Z",
                "started_at": "2026-01-01T12:00:00Z",
                "completed_at": "2026-01-01T12:00:21Z",
                "error": ERROR_EXAMPLE,
                "reason": None,
                "queue_position": None,
                "stages": [FAILED_STAGE_EXAMPLE],
            }
        }
    )

    video_id: str
    request_id: str | None
    run_id: str | None
    pipeline_type: PipelineType
    status: Literal["queued", "running", "completed", "failed", "partial", "cancelled"]
    queued_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    error: StageError | None
    reason: str | None
    queue_position: int | None
    stages: list[StageState]


def status(live: PipelineStatus) -> Status:
    return Status.model_validate(live, from_attributes=True)
