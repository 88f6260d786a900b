"""What pipelines have done: runs, the stages of one, and the failures that stand."""

import dataclasses
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Output
from api.schemas.pipeline import ERROR_EXAMPLE, FAILED_STAGE_EXAMPLE, StageError, StageState, status
from db.queries.failures import FailureView
from db.queries.runs import RunView
from videomoments_dagster.requests.status import PipelineStatus

_RUN: dict[str, Any] = {
    "id": "pipeline:motivation:1767268800000",
    "video_id": "motivation",
    "pipeline_type": "full",
    "status": "failed",
    "started_at": "2026-01-01T12:00:00Z",
    "completed_at": "2026-01-01T12:00:21Z",
    "duration_seconds": 21.4,
    "total_moments_generated": None,
    "total_clips_created": None,
    "error_stage": "VIDEO_DOWNLOAD",
    "error_message": "The server answers 404.",
}
_FAILURE = {
    "video_id": "motivation",
    "run": "pipeline:motivation:1767268800000",
    "status": "failed",
    "failed_at": "2026-01-01T12:00:21Z",
    **ERROR_EXAMPLE,
    "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
}


class Run(Output):
    """One run, kept for good."""

    model_config = ConfigDict(json_schema_extra={"example": _RUN})

    id: str
    video_id: str
    pipeline_type: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    duration_seconds: float | None
    total_moments_generated: int | None
    total_clips_created: int | None
    error_stage: str | None
    error_message: str | None


class RunDetails(Run):
    """A run with its stages. What concerns its stages is kept for a day after its end, and null then, as it is while
    the run goes on."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_RUN,
                "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
                "run_id": "0b1d5a52-53d3-4a0b-8d2c-9f2a1c0b7e11",
                "error": ERROR_EXAMPLE,
                "stages": [FAILED_STAGE_EXAMPLE],
            }
        }
    )

    request_id: str | None
    run_id: str | None
    error: StageError | None
    stages: list[StageState] | None


class Failure(Output):
    """A video whose newest run failed, or ended partial: with moments, but without all that hangs on them. `code` and
    `retryable` are null where only history is left to tell; its message has the hint at its end."""

    model_config = ConfigDict(json_schema_extra={"example": _FAILURE})

    video_id: str
    run: str = Field(description="The run's `id` in the history")
    status: Literal["failed", "partial"]
    failed_at: datetime
    stage: str | None
    code: str | None
    message: str
    hint: str
    retryable: bool | None
    request_id: str | None


class FailurePage(Output):
    """`next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_FAILURE], "next_cursor": None}})

    items: list[Failure]
    next_cursor: str | None


class RunPage(Output):
    """`next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_RUN], "next_cursor": None}})

    items: list[Run]
    next_cursor: str | None


def run(view: RunView) -> Run:
    return Run.model_construct(**_run_fields(view))


def run_details(view: RunView, kept: PipelineStatus | None) -> RunDetails:
    details = status(kept) if kept else None
    return RunDetails.model_construct(
        **_run_fields(view),
        request_id=details and details.request_id,
        run_id=details and details.run_id,
        error=details and details.error,
        stages=details and details.stages,
    )


def failure(view: FailureView) -> Failure:
    fields = {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}
    return Failure.model_construct(video_id=fields.pop("video_identifier"), run=fields.pop("run_identifier"), **fields)


def _run_fields(view: RunView) -> dict[str, Any]:
    fields = {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}
    return {"id": fields.pop("identifier"), "video_id": fields.pop("video_identifier"), **fields}
