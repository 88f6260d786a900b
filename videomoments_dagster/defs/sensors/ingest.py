"""The ingest sensor: turns messages of the Redis stream into partitions and runs, exactly once.

The cursor is the last stream id that was read. Dagster stores the cursor and the reserved run ids together before it
submits, so a tick that dies is taken up again; reading from the cursor never acknowledges anything early, and
`run_key` = request id makes a message that is seen twice harmless.
"""

import logging
from dataclasses import dataclass, field, replace

import dagster as dg
from sqlalchemy.orm import Session

from db.models import PipelineRequest
from db.queries import requests as request_queries
from db.queries import videos as video_queries
from videomoments_dagster import logs
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.inputs import cuts_clips
from videomoments_dagster.defs.partitions import VIDEOS, videos
from videomoments_dagster.defs.policies import PIPELINE_TAG, REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.resuming import left_undone
from videomoments_dagster.defs.run_end import end_unlaunched, has_run
from videomoments_dagster.defs.workers.configuration import QUEUE_TAG
from videomoments_dagster.errors import Cancelled, Conflict, VideoMomentsError
from videomoments_dagster.identifiers import distinct_identifier
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stream import DeleteMessage, RequestStream, StartMessage, is_before
from videomoments_dagster.webhooks import Webhook

_log = logging.getLogger("videomoments.sensors")
BLOCK_SECONDS = 4.0  # the tick waits for a message, not the daemon's loop (defs/daemon.py)
BATCH = 50  # messages a tick: far below the 60 s a tick may take


@dataclass(slots=True)
class _Tick:
    """What one tick asks of Dagster, in the order of the stream."""

    runs: dict[str, dg.RunRequest] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    dead: int = 0


@dg.sensor(
    jobs=list(jobs.OF.values()),
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def ingest(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult | dg.SkipReason:
    """Launches a run for every request in `pipeline:requests`. A failed read skips the tick and loses nothing."""
    stream, cursor = RequestStream(platform.redis), context.cursor or "0-0"
    tick = _Tick()
    try:
        stream.take(cursor)
        stream.trim(cursor)
        messages = stream.read(cursor, count=BATCH, block_seconds=BLOCK_SECONDS)
        for identifier, fields in messages:
            try:
                _take(context, platform, stream.parse(fields), tick)
            except VideoMomentsError as error:
                if error.retryable:  # a service is away, or the video is just being deleted
                    raise
                stream.bury(identifier, fields, f"{error.code}: {error.message}")
                _end_buried(context, platform, fields, tick, error)
                tick.dead += 1
        newest = None if messages else stream.newest()
    except VideoMomentsError as error:
        return dg.SkipReason(error.message)
    if newest and is_before(newest, cursor):  # another Redis, whose clock is behind: known requests are known still
        return dg.SensorResult(skip_reason=f"The stream begins anew at {newest}: it is read again.", cursor="0-0")
    if not messages:
        return dg.SkipReason("No requests.")
    context.log.info(
        f"{len(messages)} messages: {len(tick.runs)} runs, {len(tick.deleted)} deletions, {tick.dead} dead."
    )
    partition_requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if tick.deleted:
        partition_requests.append(videos.build_delete_request(tick.deleted))
    if tick.added:
        partition_requests.append(videos.build_add_request(tick.added))
    return dg.SensorResult(
        run_requests=list(tick.runs.values()), dynamic_partitions_requests=partition_requests, cursor=messages[-1][0]
    )


def _take(
    context: dg.SensorEvaluationContext, platform: PlatformResource, message: StartMessage | DeleteMessage, tick: _Tick
) -> None:
    if isinstance(message, DeleteMessage):
        with platform.database.session() as session:
            request_queries.lock_video(session, message.video_id)  # the deletion may not be committed yet
            if request_queries.newest(session, message.video_id):
                return  # submitted again since
        # A start further on in the same batch adds the partition again; one before it was meant for the old video.
        tick.added = [video for video in tick.added if video != message.video_id]
        tick.runs = {key: run for key, run in tick.runs.items() if run.partition_key != message.video_id}
        if message.video_id not in tick.deleted and context.instance.has_dynamic_partition(VIDEOS, message.video_id):
            tick.deleted.append(message.video_id)
        return
    with platform.database.session() as session:
        row = request_queries.get(session, message.request_id)
        if row is None and message.is_recorded:
            return  # deleted since, with its video
        if row is None:
            webhook = Webhook.parse(message.webhook_url, message.webhook_secret, platform.settings)
            row = _record(session, message, webhook)
        same = row.source_url == message.url if message.is_derived else row.video_identifier == message.video_id
        if not same:
            raise Conflict(f"Request {message.request_id!r} is another video's; give every request an id of its own.")
        message = replace(message, video_id=row.video_identifier)
        if row.state in {"finished", "rejected"}:
            return
        if row.cancel_requested_at and not has_run(context.instance, row.request_id):
            end_unlaunched(platform, session, row, Cancelled("Cancelled before it was started."))
            return
    config = PipelineConfig.parse(message.config)
    selection = jobs.selection(message.pipeline_type, cut_clips=cuts_clips(platform, config))
    if config.resume:
        selection = left_undone(context.instance, platform, message.video_id, message.pipeline_type, selection)
    if message.video_id not in tick.added:
        tick.added.append(message.video_id)
    with logs.bound(request_id=message.request_id, video=message.video_id):
        _log.info("A run is launched.", extra={"pipeline_type": message.pipeline_type.value})
    tick.runs[message.request_id] = dg.RunRequest(
        run_key=message.request_id,
        job_name=jobs.OF[message.pipeline_type].name,
        partition_key=message.video_id,
        asset_selection=selection,
        run_config=jobs.alone(message.pipeline_type, config),
        tags={REQUEST_TAG: message.request_id, PIPELINE_TAG: message.pipeline_type.value}
        | ({QUEUE_TAG: message.config["queue"]} if message.config.get("queue") else {}),
    )


def _end_buried(
    context: dg.SensorEvaluationContext,
    platform: PlatformResource,
    fields: dict[str, str],
    tick: _Tick,
    error: VideoMomentsError,
) -> None:
    """A request that has a row is not only buried: whoever waits for it learns why, and it is not published again. A
    message that only bears its id, for another video, ends nothing."""
    request_id, video = fields.get("request_id", ""), fields.get("video_id", "")
    if not request_id.isprintable() or not video or request_id in tick.runs:  # PostgreSQL refuses to look for some
        return
    with platform.database.session() as session:
        row = request_queries.get(session, request_id)
        if row is None or row.video_identifier != video or row.state != "queued":
            return
        if not has_run(context.instance, request_id):
            end_unlaunched(platform, session, row, error)


def _record(session: Session, message: StartMessage, webhook: Webhook | None) -> PipelineRequest:
    """The durable row of a request that another producer put on the stream by itself."""
    video = message.video_id
    if message.url:
        known = video_queries.by_source_url(session, message.url) if message.is_derived else None
        candidates = [known.identifier] if known else [video]
        if message.is_derived and not known:
            candidates.append(distinct_identifier(video, message.url))
        claimed = request_queries.claim(session, candidates, message.url)
        if claimed is None:
            raise Conflict(f"Identifier {candidates[-1]!r} belongs to another URL; give a video_id of its own.")
        video = claimed
    else:
        request_queries.lock_video(session, video)
    return request_queries.create(
        session,
        request_id=message.request_id,
        video_identifier=video,
        source_url=message.url,
        pipeline_type=message.pipeline_type.value,
        config=message.config,
        webhook_url=webhook.url if webhook else None,
        webhook_secret=webhook.secret if webhook else None,
    )
