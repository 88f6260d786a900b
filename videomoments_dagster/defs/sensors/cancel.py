"""The cancel sensor: ends what somebody wants cancelled, wherever it is. A run at work hears its video's flag by
itself, within a second; this is for those that wait, and for flags that were lost.

What is wanted stands in `pipeline_requests`, so that nothing that dies in between forgets it.
"""

import dagster as dg
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from db.queries import requests as request_queries
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.run_end import finish_as_it_ended
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.cancel import CancelFlag

BLOCK_SECONDS = 4.0
BATCH = 200  # 0.1 s each at most: within the 60 s a tick may take
_CANCELLABLE = {
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
}


@dg.sensor(minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING, jobs=[])
def cancel(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SkipReason:
    """Cancels the runs of requests that are to be cancelled, in the queue and at work."""
    try:
        ended = _cancel_requests(context.instance, platform)
        if not ended and (woken := CancelFlag(platform.redis).wait(BLOCK_SECONDS)):
            ended = _cancel_requests(context.instance, platform) + _cancel_ui_runs(context.instance, platform, woken)
    except ServiceUnavailable as error:
        return dg.SkipReason(error.message)
    return dg.SkipReason(f"{ended} runs cancelled." if ended else "Nothing to cancel.")


def _cancel_requests(instance: dg.DagsterInstance, platform: PlatformResource) -> int:
    """A request without a run is ended by the ingest sensor when it reads its message: it alone knows that none is
    being launched just now."""
    with platform.database.read() as session:
        wanted = [row.request_id for row in request_queries.to_cancel(session, BATCH)]
    records = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: wanted})) if wanted else []
    newest: dict[str, dg.DagsterRun] = {}
    for record in records:
        newest.setdefault(record.dagster_run.tags[REQUEST_TAG], record.dagster_run)
    return sum(_end(instance, platform, run) for run in newest.values())


def _end(instance: dg.DagsterInstance, platform: PlatformResource, run: dg.DagsterRun) -> bool:
    """One that is cancelled already ends its request here: the run-status sensor takes the ends of many one by one, and
    those who wait for theirs would not be looked at."""
    if run.status is dg.DagsterRunStatus.CANCELED:
        finish_as_it_ended(instance, platform, run)
        return True
    return _cancel_run(instance, run)


def _cancel_ui_runs(instance: dg.DagsterInstance, platform: PlatformResource, videos: list[str]) -> int:
    """Runs that were started in the Dagster UI have no request: the flag names the first of a run and its retries."""
    owners = {video: CancelFlag(platform.redis).ordered(video) for video in videos}
    wanted = [
        dg.RunsFilter(tags={PARTITION_TAG: video, ROOT_RUN_ID_TAG: owner}, statuses=list(_CANCELLABLE))
        for video, owner in owners.items()
        if owner
    ]
    retries = [record.dagster_run for each in wanted for record in instance.get_run_records(each, limit=1)]
    first = [instance.get_run_by_id(owner) for owner in owners.values() if owner]
    return sum(_cancel_run(instance, run) for run in [*retries, *first] if run)


def _cancel_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    return run.status in _CANCELLABLE and instance.run_coordinator.cancel_run(run.run_id)
