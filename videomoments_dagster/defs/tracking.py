"""A run's side of live status: stages, progress, lock renewal, and errors turned into typed failures.

PostgreSQL and Dagster hold the truth. When Redis is away, a run goes on without telling.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import dagster as dg
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.queries import requests as request_queries
from db.queries import runs as run_queries
from videomoments_dagster.defs.observing import observed
from videomoments_dagster.defs.policies import PIPELINE_TAG, REQUEST_TAG, as_failure, lock_owner
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import NO_SPACE, Cancelled, DiskFull, NotFound, ServiceUnavailable, VideoMomentsError
from videomoments_dagster.requests.lock import TTL_SECONDS, PipelineLock
from videomoments_dagster.requests.stages import STAGES_OF, STAGES_OF_ASSET, PipelineType, Stage
from videomoments_dagster.requests.status import LiveStatus

Progress = Callable[[float], None]
_PROGRESS_EVERY_SECONDS = 0.5
_log = logging.getLogger("videomoments.stages")
_announced: set[str] = set()  # runs of this process that have reported themselves


@contextmanager
def stage(context: dg.AssetExecutionContext, platform: PlatformResource, stage: Stage) -> Iterator[Progress]:
    """Run the body as `stage` of the context's video; yields a function that takes progress 0..1.

    Any exception becomes a typed Dagster Failure and the stage's `_error`. One that has no name of ours is a defect:
    it is logged with its traceback, and not tried again.
    """
    with observed(context, platform.redis, stage), _reported(context, platform, stage) as progress:
        yield progress


@contextmanager
def _reported(context: dg.AssetExecutionContext, platform: PlatformResource, stage: Stage) -> Iterator[Progress]:
    """The stage as the video's status tells it, and its errors as Dagster's."""
    video, status = context.partition_key, LiveStatus(platform.redis)
    try:
        _end_if_cancelled(context, platform)
        with suppress(ServiceUnavailable):
            _announce(context, platform, status)
            PipelineLock(platform.redis).acquire(video, lock_owner(context.run))  # Redis may have lost it
            status.stage_started(video, stage)
    except VideoMomentsError as error:
        raise as_failure(context, stage, error) from error
    reported = 0.0

    def progress(done: float) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _PROGRESS_EVERY_SECONDS:
            reported = now
            with suppress(ServiceUnavailable):
                status.stage_progress(video, stage, done)

    try:
        with _renewed_lock(context, platform):
            yield progress
    except VideoMomentsError as error:
        _report_failure(status, video, stage, error)
        raise as_failure(context, stage, error) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            named: VideoMomentsError = DiskFull(f"{error.strerror}: {error.filename or platform.settings.home}")
        else:
            _log.exception("%s is broken.", stage)
            named = _internal(error)
        _report_failure(status, video, stage, named)
        raise as_failure(context, stage, named) from error
    except dg.DagsterExecutionInterruptedError as interrupt:
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is None or run.status is not dg.DagsterRunStatus.CANCELING:
            raise
        _drop_temp_files(platform, video)
        cancelled = Cancelled("The run was cancelled in this stage.")
        _report_failure(status, video, stage, cancelled)
        raise as_failure(context, stage, cancelled) from interrupt  # an interrupt alone would be retried by the policy
    with suppress(ServiceUnavailable):
        status.stage_completed(video, stage)


def note(context: dg.AssetExecutionContext, platform: PlatformResource, reason: str) -> None:
    """Tell those who wait why there is less than they may expect."""
    context.log.info(reason)
    with suppress(ServiceUnavailable):
        LiveStatus(platform.redis).note(context.partition_key, reason)


def pipeline_type(run: dg.DagsterRun) -> PipelineType:
    """What kind of pipeline a run is: its request says so, else the assets that were selected in the UI."""
    if tagged := run.tags.get(PIPELINE_TAG):
        return PipelineType(tagged)
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    if selected and selected <= {"audio", "transcript"}:
        return PipelineType.TRANSCRIPT_ONLY
    if not selected or selected & {"video", "audio", "transcript"}:
        return PipelineType.FULL
    if "moments" in selected:
        return PipelineType.MOMENTS_ONLY
    return PipelineType.CLIPS_ONLY if "clips" in selected else PipelineType.REFINEMENT_ONLY


def run_times(instance: dg.DagsterInstance, run_id: str) -> tuple[datetime, datetime | None]:
    """When the run started and, if it has, ended. The start names its history row, so it must never differ."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return datetime.now(UTC), None
    started = record.start_time or record.create_timestamp.timestamp()
    return (
        datetime.fromtimestamp(started, UTC),
        datetime.fromtimestamp(record.end_time, UTC) if record.end_time else None,
    )


def is_gone(session: Session, run: dg.DagsterRun, video: str) -> bool:
    """Whether the video of `run`, or the request that it is for, was deleted: nothing is to be recorded of it."""
    request_id = run.tags.get(REQUEST_TAG)
    if request_id and request_queries.is_deleted(session, request_id):
        return True
    return request_queries.is_unknown(session, video)


def _end_if_cancelled(context: dg.AssetExecutionContext, platform: PlatformResource) -> None:
    """An interrupt that comes between two stages, or as one ends, stops nothing: to Dagster it is an error to retry."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
        _drop_temp_files(platform, context.partition_key)
        raise Cancelled("The run was cancelled before this stage.")


def _drop_temp_files(platform: PlatformResource, video: str) -> None:
    """Nobody goes on with the download of a run that was cancelled."""
    with suppress(OSError):
        platform.temp.remove_video(video)


def _announce(context: dg.AssetExecutionContext, platform: PlatformResource, status: LiveStatus) -> None:
    """Once a run and process: the request is launched, the hash shows this run. Raises NotFound when the video was
    deleted while the run waited.

    Under the lock that a deletion holds: either it is over when the run starts, or it sees a run that has started.
    """
    run, video = context.run, context.partition_key
    if run.run_id in _announced:
        return
    request_id = run.tags.get(REQUEST_TAG)
    started, _ = run_times(context.instance, run.run_id)
    with platform.database.session() as session:
        request_queries.lock_video(session, video)
        if is_gone(session, run, video):
            raise NotFound(
                f"There is no video {video!r}: it was deleted, or never submitted.",
                hint="Submit it: `videomoments submit URL|FILE`.",
            )
        run_queries.record(
            session,
            video_identifier=video,
            pipeline_type=pipeline_type(run).value,
            status="running",
            started_at=started,
        )
        if request_id:
            request_queries.mark_launched(session, request_id, run.run_id)
    known = status.read(video)
    selected = [key.to_user_string() for key in run.asset_selection or ()]
    if known and request_id and known.request_id == request_id:
        status.run_started(video, run.run_id)
        left_out = [asset for asset in STAGES_OF_ASSET if selected and asset not in selected]
        status.skip(video, [each for asset in left_out for each in STAGES_OF_ASSET[asset]])
    else:
        kind = pipeline_type(run)
        stages = [each for asset in selected for each in STAGES_OF_ASSET[asset]] or STAGES_OF[kind]
        status.begin(video, request_id=request_id, pipeline_type=kind, stages=stages, run_id=run.run_id)
    _announced.add(run.run_id)


@contextmanager
def _renewed_lock(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[None]:
    """Renew the video's lock while the body works, so that a stage may take hours; take it again if Redis lost it."""
    ended, lock, video, owner = (
        threading.Event(),
        PipelineLock(platform.redis),
        context.partition_key,
        lock_owner(context.run),
    )

    def renew() -> None:
        while not ended.wait(TTL_SECONDS / 6):
            with suppress(ServiceUnavailable):
                lock.acquire(video, owner)

    thread = threading.Thread(target=renew, name=f"lock-{video}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _report_failure(status: LiveStatus, video: str, stage: Stage, error: VideoMomentsError) -> None:
    with suppress(ServiceUnavailable):
        status.stage_failed(video, stage, error.as_dict(stage))


def _internal(error: BaseException) -> VideoMomentsError:
    internal = VideoMomentsError(
        f"{type(error).__name__} in this stage.",
        hint="A defect of VideoMoments: the run's log in the Dagster UI says more.",
    )
    internal.retryable = isinstance(error, OSError | OperationalError)  # of the machine, or of Dagster's database
    return internal
