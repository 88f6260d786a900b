"""The sensors that record how a run ended (defs/run_end.py)."""

import dagster as dg

from videomoments_dagster.defs.policies import WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.run_end import error_of, finish, finish_attempt, how_it_failed


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
    error = error_of(context.instance, platform, run, context.failure_event.message)
    if run.tags.get(WILL_RETRY_TAG) == "true":
        goes_on = {**error, "hint": "Another run goes on from there."}
        finish_attempt(context.instance, platform, run, goes_on)
        return
    finish(context.instance, platform, run, how_it_failed(context.instance, run), error)
