"""What the end of a run leaves behind: its history row, its finished request, its status, and a free lock.

Everything here is idempotent; a sensor that is killed half-way does it again.
"""

import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from db.queries import requests as request_queries
from db.queries import runs as run_queries
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.policies import BLOCKED_ERROR, PARTITION_TAG, REQUEST_TAG, WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import lock_owner, pipeline_type, run_times
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.status import LiveStatus

_MOMENTS_STEP = "moments"


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitored_jobs=None,
)
def run_succeeded(context: dg.RunStatusSensorContext, platform: PlatformResource) -> None:
    """Records a completed run."""
    _finish(context, platform, "completed", None)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def run_cancelled(context: dg.RunStatusSensorContext, platform: PlatformResource) -> None:
    """Records a cancelled run."""
    _finish(context, platform, "cancelled", None)


@dg.run_failure_sensor(minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def run_failed(context: dg.RunFailureSensorContext, platform: PlatformResource) -> None:
    """Records a failed run with its typed error; `partial` when its moments are there. When Dagster retries it, only
    the run has ended: its request, status and lock go on with the next one."""
    run = context.instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
    error = _typed_error(context, platform)
    if run.tags.get(WILL_RETRY_TAG) == "true":
        if video := _video_of(run):
            with platform.database.session() as session:
                _record(context, session, video, "failed", {**error, "hint": "Another run goes on from there."})
        return
    found = _has_finished(context.instance, run, _MOMENTS_STEP)
    _finish(context, platform, "partial" if found else "failed", error)


def _finish(
    context: dg.RunStatusSensorContext, platform: PlatformResource, status: str, error: dict[str, Any] | None
) -> None:
    run = context.dagster_run
    video = _video_of(run)
    if not video:
        return
    with platform.database.session() as session:
        _record(context, session, video, status, error)
        if request_id := run.tags.get(REQUEST_TAG):
            request_queries.mark_finished(session, request_id, error=json.dumps(error) if error else None)
    try:
        live = LiveStatus(platform.redis)
        if live.belongs_to(video, run_id=run.run_id, request_id=run.tags.get(REQUEST_TAG)):
            live.finish(video, status, error)
        PipelineLock(platform.redis).release(video, lock_owner(run))
    except ServiceUnavailable as away:
        context.log.warning(away.message)  # the lock ends by itself


def _has_finished(instance: dg.DagsterInstance, run: dg.DagsterRun | None, step: str) -> bool:
    """Whether `run`, or one that it resumes, finished `step`."""
    while run:
        records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS, limit=100).records
        if any(record.event_log_entry.step_key == step for record in records):
            return True
        run = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return False


def _video_of(run: dg.DagsterRun) -> str | None:
    """The video whose pipeline `run` is. None for a run of checks alone, and for one without a partition."""
    only_checks = run.job_name == jobs.checks.name or (run.asset_check_selection and not run.asset_selection)
    return None if only_checks else run.tags.get(PARTITION_TAG)


def _record(
    context: dg.RunStatusSensorContext, session: Session, video: str, status: str, error: dict[str, Any] | None
) -> None:
    """The end of the context's run in its history row."""
    run = context.dagster_run
    started, completed = run_times(context.instance, run.run_id)
    run_queries.record(
        session,
        video_identifier=video,
        pipeline_type=pipeline_type(run).value,
        status=status,
        started_at=started,
        completed_at=completed or datetime.now(UTC),
        error_stage=error["stage"] if error else None,
        error_message=f"{error['message']} {error['hint']}".strip() if error else None,
    )


def _typed_error(context: dg.RunFailureSensorContext, platform: PlatformResource) -> dict[str, Any]:
    """The first failed step's error as `{stage, code, message, hint, retryable}`; else why the run was lost."""
    for event in context.get_step_failure_events():
        failure = event.step_failure_data.user_failure_data
        if failure and "code" in failure.metadata:
            return {key: value.value for key, value in failure.metadata.items()}
        cause = event.step_failure_data.error
        blocked = cause is not None and cause.cls_name == BLOCKED_ERROR
        return {
            "stage": event.step_key,
            "code": "check_failed" if blocked else "internal_error",
            "message": (cause.message if cause else "The step failed.").strip().splitlines()[0][:500],
            "hint": "The run's log in the Dagster UI says more.",
            "retryable": False,
        }
    return {
        "stage": None,
        "code": "run_crashed",
        "message": _why_lost(platform, context.dagster_run.run_id)
        or (context.failure_event.message or "The run's process ended.").strip().splitlines()[0][:500],
        "hint": "Start the video again; finished stages keep their results.",
        "retryable": True,
    }


def _why_lost(platform: PlatformResource, run_id: str) -> str | None:
    try:
        verdict = RunLease(platform.redis, run_id).verdict()
    except ServiceUnavailable:
        return None
    return f"The run was lost: {verdict}." if verdict else None
