"""What the end of a run leaves behind: its history row, its finished request, its status, and a free lock.

Everything here is idempotent; a sensor that is killed half-way does it again.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from db.models import PipelineRequest
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from db.queries import webhooks as webhook_queries
from videomoments_dagster import webhooks
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.policies import BLOCKED_ERROR, PARTITION_TAG, REQUEST_TAG, lock_owner
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import is_gone, pipeline_type, run_times
from videomoments_dagster.errors import Cancelled, ServiceUnavailable, VideoMomentsError
from videomoments_dagster.requests.cancel import CancelFlag
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.stages import STAGES_OF_ASSET, Stage
from videomoments_dagster.requests.status import LiveStatus

_MOMENTS_STEP = "moments"
_WRAPPERS = {"RetryRequestedFromPolicy", "DagsterExecutionStepExecutionError"}
"""What Dagster puts around an exception that a step raised. Their messages say nothing of it."""


def finish(
    instance: dg.DagsterInstance,
    platform: PlatformResource,
    run: dg.DagsterRun,
    status: str,
    error: dict[str, Any] | None,
) -> None:
    """Record that `run` ended as `status` (completed, partial, failed, cancelled), and that its request did."""
    video = video_of(run)
    if not video:
        return
    if status != "completed":  # the daemon frees them too, after a while
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    request_id = run.tags.get(REQUEST_TAG)
    with platform.database.session() as session:
        started = _record(instance, session, run, video, status, error)
        if request_id:
            _end_request(platform, session, request_id, status, error)
    with suppress(ServiceUnavailable):  # the lock ends by itself
        live = LiveStatus(platform.redis)
        if started and live.belongs_to(video, run_id=run.run_id, request_id=request_id):
            live.finish(video, status, error)
            live.keep_run(video, started, run.run_id, status, error)
        _let_go(platform, video, lock_owner(run))


def finish_attempt(
    instance: dg.DagsterInstance, platform: PlatformResource, run: dg.DagsterRun, error: dict[str, Any]
) -> None:
    """Record that `run` failed while its request, status and lock go on with another run."""
    video = video_of(run)
    if not video:
        return
    with platform.database.session() as session:
        started = _record(instance, session, run, video, "failed", error)
    with suppress(ServiceUnavailable):
        live = LiveStatus(platform.redis)
        known = live.read(video)
        if started and known and known.run_id == run.run_id:
            live.keep_run(video, started, run.run_id, "failed", error)


def finish_as_it_ended(instance: dg.DagsterInstance, platform: PlatformResource, run: dg.DagsterRun) -> None:
    """`finish` for a run that ended while nobody heard of it, by what Dagster kept of it."""
    if run.status is dg.DagsterRunStatus.CANCELED:
        finish(instance, platform, run, "cancelled", None)
    elif run.is_success or has_done_all(instance, run):
        finish(instance, platform, run, "completed", None)
    else:
        finish(instance, platform, run, how_it_failed(instance, run), error_of(instance, platform, run))


def has_run(instance: dg.DagsterInstance, request_id: str) -> bool:
    """Whether any run was ever made for the request."""
    return bool(instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: request_id}), limit=1))


def end_unlaunched(
    platform: PlatformResource, session: Session, request: PipelineRequest, reason: VideoMomentsError
) -> None:
    """End a request that no run was made for, as cancelled or failed. Its history row says when it was asked for."""
    video, error = request.video_identifier, reason.as_dict()
    status = "cancelled" if isinstance(reason, Cancelled) else "failed"
    run_queries.record(
        session,
        video_identifier=video,
        pipeline_type=request.pipeline_type,
        status=status,
        started_at=request.requested_at,
        completed_at=datetime.now(UTC),
        error_message=f"{error['message']} {error['hint']}".strip(),
    )
    _end_request(platform, session, request.request_id, status, error)
    with suppress(ServiceUnavailable):
        live = LiveStatus(platform.redis)
        if live.belongs_to(video, run_id="", request_id=request.request_id):
            live.finish(video, status, error)
        _let_go(platform, video, request.request_id)


def _end_request(
    platform: PlatformResource, session: Session, request_id: str, status: str, error: dict[str, Any] | None
) -> None:
    """The request is over and its webhook is to be told, both or neither; a request that is over already was told of.
    `failed` is the event of `partial`, too."""
    if not request_queries.mark_finished(session, request_id, error=json.dumps(error) if error else None):
        return
    event = "failed" if status == "partial" else status
    webhook_queries.record(
        session, request_id, event, lambda ended: _told(platform.settings.public_url, ended, event, status, error)
    )


def _told(
    base: str, ended: webhook_queries.Ended, event: str, status: str, error: dict[str, Any] | None
) -> dict[str, Any]:
    video = ended.video_identifier
    data = {
        "video_id": video,
        "request_id": ended.request_id,
        "run_id": ended.run_id,
        "pipeline_type": ended.pipeline_type,
        "status": status,
        "number_of_moments": ended.number_of_moments,
        "error": error,
        "status_url": f"{base}/api/pipeline/{video}/status",
        "moments_url": f"{base}/api/videos/{video}/moments",
    }
    return webhooks.payload(event, datetime.now(UTC), data)


def _let_go(platform: PlatformResource, video: str, owner: str) -> None:
    """Free the lock, and take down the flag that cancels: a run that is re-executed in the UI has the same owner."""
    PipelineLock(platform.redis).release(video, owner)
    CancelFlag(platform.redis).forget_if(video, owner)


def _record(
    instance: dg.DagsterInstance,
    session: Session,
    run: dg.DagsterRun,
    video: str,
    status: str,
    error: dict[str, Any] | None,
) -> datetime | None:
    """The end of `run` in its history row; returns when it started. None, and no row, when its video was deleted."""
    if is_gone(session, run, video):
        return None
    started, completed = run_times(instance, run.run_id)
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
    return started


def how_it_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """`partial` when the moments are there, made by the run or one that it resumes; else `failed`."""
    resumed: dg.DagsterRun | None = run
    while resumed:
        if _MOMENTS_STEP in _finished_steps(instance, resumed):
            return "partial"
        resumed = instance.get_run_by_id(resumed.parent_run_id) if resumed.parent_run_id else None
    return "failed"


def has_done_all(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether every planned step of `run` succeeded, whatever became of the run after that."""
    plan = run.execution_plan_snapshot_id and instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    return bool(plan) and set(plan.step_keys_to_execute) <= _finished_steps(instance, run)


def error_of(
    instance: dg.DagsterInstance, platform: PlatformResource, run: dg.DagsterRun, message: str | None = None
) -> dict[str, Any]:
    """The first failed step's error as `{stage, code, message, hint, retryable}`; without one, why the run was lost if
    that is known, else `message`."""
    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    event = failures[0].event_log_entry.dagster_event if failures else None
    if event is None:
        return _crash_error(platform, run.run_id, _stage_at_work(instance, run), message)
    failure, cause = event.step_failure_data.user_failure_data, event.step_failure_data.error
    if failure and "code" in failure.metadata:
        return {key: value.value for key, value in failure.metadata.items()}
    while cause and cause.cause and cause.cls_name in _WRAPPERS:
        cause = cause.cause
    blocked = cause is not None and cause.cls_name == BLOCKED_ERROR
    asset = _checked_by(instance, run, event.step_key) if blocked else event.step_key
    return {
        "stage": STAGES_OF_ASSET[asset][0] if asset in STAGES_OF_ASSET else asset,
        "code": "check_failed" if blocked else "internal_error",
        "message": (cause.message if cause else "The step failed.").strip().splitlines()[0][:500],
        "hint": "The run's log in the Dagster UI says more.",
        "retryable": False,
    }


def video_of(run: dg.DagsterRun) -> str | None:
    """The video whose pipeline `run` is. None for a run of checks alone, and for one without a partition."""
    only_checks = run.job_name == jobs.checks.name or (run.asset_check_selection and not run.asset_selection)
    return None if only_checks else run.tags.get(PARTITION_TAG)


def _crash_error(platform: PlatformResource, run_id: str, stage: Stage | None, message: str | None) -> dict[str, Any]:
    try:
        verdict = RunLease(platform.redis, run_id).verdict()
    except ServiceUnavailable:
        verdict = None
    return {
        "stage": stage,
        "code": "run_crashed",
        "message": f"The run was lost: {verdict}."
        if verdict
        else (message or "The run's process ended.").strip().splitlines()[0][:500],
        "hint": "Start the video again; finished stages keep their results.",
        "retryable": True,
    }


def _stage_at_work(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Stage | None:
    """The stage that had begun and not ended; the first one of its asset."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_START, limit=100).records
    done = _finished_steps(instance, run)
    open_steps = [each.event_log_entry.step_key for each in records if each.event_log_entry.step_key not in done]
    return next((STAGES_OF_ASSET[step][0] for step in reversed(open_steps) if step in STAGES_OF_ASSET), None)


def _checked_by(instance: dg.DagsterInstance, run: dg.DagsterRun, step: str | None) -> str | None:
    """The asset that the checks of `step` are about; `step` itself when they have said nothing."""
    evaluations = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    for record in instance.get_records_for_run(run.run_id, of_type=evaluations, limit=100).records:
        event = record.event_log_entry.dagster_event
        if event and event.step_key == step:
            return event.asset_check_evaluation_data.asset_key.to_user_string()
    return step


def _finished_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str | None]:
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS, limit=100).records
    return {record.event_log_entry.step_key for record in records}
