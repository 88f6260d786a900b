"""The reconcile sensor: what was lost on its way goes there again. Requests that PostgreSQL says are queued and no run
knows go onto the stream, launched runs that no worker can know of go to the broker.

It starts nothing itself: the ingest sensor's `run_key` stays the one place that keeps a request from running twice, and
a run's lease what keeps it from being executed twice.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from db.queries import requests as request_queries
from videomoments_dagster.defs.policies import REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.workers.launcher import LeasedRunLauncher
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.requests.stream import RequestStream, StartMessage

AFTER_SECONDS = 30  # the ingest sensor takes a request within seconds; later it was lost on the way
BATCH = 50


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING, jobs=[])
def reconcile(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SkipReason:
    """Publishes again what was lost between PostgreSQL and the stream, for instance when Redis lost its data."""
    published = 0
    try:
        with platform.database.read() as session:
            waiting = request_queries.queued_before(
                session, datetime.now(UTC) - timedelta(seconds=AFTER_SECONDS), limit=BATCH
            )
        for row in waiting:
            known = context.instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: row.request_id}), limit=1)
            if known:
                continue
            RequestStream(platform.redis).publish(
                StartMessage(
                    request_id=row.request_id,
                    video_id=row.video_identifier,
                    pipeline_type=PipelineType(row.pipeline_type),
                    url=row.source_url,
                    config=row.config,
                )
            )
            published += 1
        launcher = context.instance.run_launcher
        launched = launcher.relaunch_lost() if isinstance(launcher, LeasedRunLauncher) else 0
    except ServiceUnavailable as error:
        return dg.SkipReason(error.message)
    return dg.SkipReason(f"Published again: {published} lost requests, {launched} lost launches.")
