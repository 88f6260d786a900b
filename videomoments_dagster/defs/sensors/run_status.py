"""The sensors that record how a run ended (defs/run_end.py)."""

from typing import Any

import dagster as dg

from videomoments_dagster.defs.policies import BLOCKED_ERROR, WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.run_end import crash_error, finish, how_it_failed, record, video_of


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    minimum_interval_seconds=2,
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitored_jobs=None,
)
def run_succeeded(context: dg.RunStatusSensorContext, platform: PlatformResource) -> None:
    """Records a completed run."""
    finish(context.instance, platform, context.dagster_run, "completed", None)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    minimum_interval_seconds=2,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def run_cancelled(context: dg.RunStatusSensorContext, platform: PlatformResource) -> None:
    """Records a cancelled run."""
    finish(context.instance, platform, context.dagster_run, "cancelled", None)


@dg.run_failure_sensor(minimum_interval_seconds=2, default_status=dg.DefaultSensorStatus.RUNNING)
def run_failed(context: dg.RunFailureSensorContext, platform: PlatformResource) -> None:
    """Records a failed run with its typed error; `partial` when its moments are there. When Dagster retries it, only
    the run has ended: its request, status and lock go on with the next one."""
    run = context.instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
    error = _typed_error(context, platform)
    if run.tags.get(WILL_RETRY_TAG) == "true":
        if video := video_of(run):
            goes_on = {**error, "hint": "Another run goes on from there."}
            with platform.database.session() as session:
                record(context.instance, session, run, video, "failed", goes_on)
        return
    finish(context.instance, platform, run, how_it_failed(context.instance, run), error)


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
    return crash_error(platform, context.dagster_run.run_id, context.failure_event.message)
