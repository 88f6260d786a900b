"""The reconcile sensor: what was lost on its way goes there again. Requests that PostgreSQL says are queued and no run
knows go onto the stream, launched runs that no worker can know of go to the broker, and requests and rows of the
history whose run ended unheard of are ended.

It starts nothing itself: the ingest sensor's `run_key` stays the one place that keeps a request from running twice, and
a run's lease what keeps it from being executed twice.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from db.queries import requests as request_queries
from videomoments_dagster.defs.consistency.history import end_unheard
from videomoments_dagster.defs.policies import REQUEST_TAG, WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.run_end import finish_as_it_ended
from videomoments_dagster.defs.workers.launcher import LeasedRunLauncher
from videomoments_dagster.defs.workers.relaunch import Relaunched, relaunch_lost
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.stream import RequestStream, StartMessage, is_before, time_of

AFTER_SECONDS = 10  # the ingest sensor takes a request within seconds; later it was lost on the way
BEHIND_SECONDS = 60  # of the last message taken, while others wait: the clocks of Redis and PostgreSQL differ
UNHEARD_SECONDS = 60  # the end of a run is recorded within seconds; later nobody will
BATCH = 50
_MOST_WAITING = 5_000  # most have a run that waits in Dagster's queue
_MOST_LAUNCHED = 500  # those that wait must not hide them
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING, jobs=[])
def reconcile(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SkipReason:
    """Publishes again what was lost on its way, for instance when Redis lost its data; ends what ended unheard of."""
    try:
        requests = _publish_requests(context, platform)
        launcher = context.instance.run_launcher
        runs = relaunch_lost(context.instance, launcher) if isinstance(launcher, LeasedRunLauncher) else Relaunched()
        ended = _end_requests(context.instance, platform)
        recorded = end_unheard(context.instance, platform, BATCH)
    except ServiceUnavailable as error:
        return dg.SkipReason(error.message)
    ends = f"given up: {runs.failed}; ended: {ended}; runs: {recorded}."
    counts = f"{requests} lost requests, {runs.published} lost launches; {ends}"
    unserved = f" No worker takes from the queue {', '.join(runs.unserved)}." if runs.unserved else ""
    return dg.SkipReason(f"Published again: {counts}{unserved}")


def _publish_requests(context: dg.SensorEvaluationContext, platform: PlatformResource) -> int:
    """Put requests onto the stream again that no run knows, once the ingest sensor has passed them. Returns how many.
    The cursor is the message that was last published: while that waits, so may all that were published before."""
    stream = RequestStream(platform.redis)
    before = _passed(stream, context.cursor)
    if before is None:
        return 0
    with platform.database.read() as session:
        waiting = request_queries.queued_before(session, before, limit=_MOST_WAITING)
    if not waiting:
        return 0
    records = context.instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: [row.request_id for row in waiting]}))
    known = {record.dagster_run.tags[REQUEST_TAG] for record in records}
    lost = [row for row in waiting if row.request_id not in known][:BATCH]
    for row in lost:
        context.update_cursor(stream.publish(StartMessage.of(row)))
    return len(lost)


def _passed(stream: RequestStream, published: str | None) -> datetime | None:
    """Requests made before this moment have no message that waits. None when that can't be said of any."""
    taken, newest = stream.taken(), stream.newest()
    if taken is None or newest is None or not is_before(taken, newest):
        return datetime.now(UTC) - timedelta(seconds=AFTER_SECONDS)
    if published and is_before(taken, published):
        return None
    return time_of(taken) - timedelta(seconds=BEHIND_SECONDS)


def _end_requests(instance: dg.DagsterInstance, platform: PlatformResource) -> int:
    """End requests whose last run ended while nobody recorded it: a run that is killed after its last step is failed
    and to be retried, but there is nothing left to retry. Returns how many."""
    ended, before = 0, datetime.now(UTC) - timedelta(seconds=UNHEARD_SECONDS)
    with platform.database.read() as session:
        active = request_queries.unheard_before(session, "launched", before, limit=_MOST_LAUNCHED)
        active += request_queries.unheard_before(session, "queued", before, limit=_MOST_WAITING)
    records = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: active}, statuses=_ENDED)) if active else []
    for request_id in {record.dagster_run.tags[REQUEST_TAG] for record in records}:
        [newest] = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: request_id}), limit=1)
        run = newest.dagster_run
        unheard = run.is_finished and newest.update_timestamp.replace(tzinfo=UTC) < before
        if not unheard or run.tags.get(WILL_RETRY_TAG) == "true":
            continue
        finish_as_it_ended(instance, platform, run)
        ended += 1
    return ended
