"""One stage of a video's pipeline, as those who wait for its result ask for it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Input, Output
from api.schemas.pipeline import ERROR_EXAMPLE, StageError
from api.schemas.webhooks import WebhookInput
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.status import PipelineStatus, StageStatus

StageState = Literal["pending", "running", "completed", "failed", "skipped"]


class StageProgress(Output):
    """`status` is the stage's in the newest request: `skipped` where that one does without it. `has_result` says
    whether there is a result, of that request or of an earlier one."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "video_id": "motivation",
                "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
                "pipeline_status": "failed",
                "status": "failed",
                "started_at": "2026-01-01T12:00:01Z",
                "completed_at": "2026-01-01T12:00:20Z",
                "progress": 0.4,
                "error": {**ERROR_EXAMPLE, "stage": "TRANSCRIPTION"},
                "has_result": False,
            }
        }
    )

    video_id: str
    request_id: str | None
    pipeline_status: Literal["queued", "running", "completed", "failed", "partial", "cancelled"]
    status: StageState
    started_at: datetime | None
    completed_at: datetime | None
    progress: float = Field(ge=0, le=1)
    error: StageError | None
    has_result: bool


class ExtractClips(Input):
    """What to do otherwise than the newest request said."""

    model_config = ConfigDict(json_schema_extra={"example": {"padding_left": 2.0, "padding_right": 2.0}})

    padding_left: float | None = Field(None, ge=0, le=120, description="Seconds of video kept before a moment")
    padding_right: float | None = Field(None, ge=0, le=120, description="Seconds of video kept after a moment")


class GenerateMoments(WebhookInput):
    """Where the video is, and how to find its moments."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"url": "https://example.org/motivation.mp4", "config": {"max_moments": 8}}}
    )

    url: str = Field(min_length=1, max_length=4096, description="http(s) address of the video")
    config: PipelineConfig = PipelineConfig.model_validate({})


def stage_progress(live: PipelineStatus, stages: Sequence[str], *, has_result: bool) -> StageProgress:
    """Stages that make one result together, as one."""
    parts = [each for each in live.stages if each.stage in stages]
    return StageProgress.model_validate(
        {
            "video_id": live.video_id,
            "request_id": live.request_id,
            "pipeline_status": live.status,
            "status": _together(parts),
            "started_at": next((each.started_at for each in parts if each.started_at), None),
            "completed_at": parts[-1].completed_at,
            "progress": sum(each.progress for each in parts) / len(parts),
            "error": next((each.error for each in parts if each.error), None),
            "has_result": has_result,
        }
    )


def _together(parts: Sequence[StageStatus]) -> str:
    states = {each.status for each in parts}
    for decisive in ("failed", "running"):
        if decisive in states:
            return decisive
    if len(states) == 1:
        return states.pop()
    return "running" if "completed" in states and "pending" in states else parts[0].status
