"""The pipeline: starting it, following it, and its history. Two spellings of start and status are in the contract."""

from contextlib import suppress
from typing import Annotated

from fastapi import Path

from api import routing, submission
from api.activity import status_now
from api.cancellation import cancel
from api.parameters import Cursor, IdempotencyKey, Limit, VideoId
from api.problems import described
from api.schemas.history import FailurePage, RunDetails, RunPage, failure, run, run_details
from api.schemas.pipeline import Cancelling, Started, StartPipeline, Status, status
from api.services import Here
from db.queries import failures, runs, videos
from db.queries.paging import DEFAULT_LIMIT
from videomoments_dagster.errors import InvalidInput, NotFound, ServiceUnavailable
from videomoments_dagster.identifiers import validate_identifier

router = routing.router(prefix="/api/pipeline", tags=["Pipeline"])


@router.post("/{video}/start", summary="Start a video's pipeline", status_code=202, responses=described(404, 409))
def start_pipeline(
    video: VideoId, here: Here, body: StartPipeline | None = None, idempotency_key: IdempotencyKey = None
) -> Started:
    """Runs the whole pipeline again, or a part of it. 409 while a request is active."""
    body = body or StartPipeline.model_validate({})
    if body.video_id not in {None, video}:
        raise InvalidInput(f"The path names {video!r}, the body {body.video_id!r}.")
    return _start(here, video, body, idempotency_key)


@router.post("/start", summary="Start the pipeline of a video", status_code=202, responses=described(404, 409))
def start_pipeline_of(here: Here, body: StartPipeline, idempotency_key: IdempotencyKey = None) -> Started:
    """The same, with the video in the body."""
    if body.video_id is None:
        raise InvalidInput("body.video_id is missing.", hint="Name the video whose pipeline should start.")
    return _start(here, validate_identifier(body.video_id), body, idempotency_key)


@router.get("/{video}/status", summary="Follow a video's pipeline", responses=described(404))
async def get_pipeline_status(video: VideoId, here: Here) -> Status:
    """The newest request: every stage with its status, times, progress 0..1 and error."""
    return status(await status_now(here, video))


@router.get("/status/{video}", summary="Follow the pipeline of a video", responses=described(404))
async def get_pipeline_status_of(video: VideoId, here: Here) -> Status:
    """The same under its other path."""
    return status(await status_now(here, video))


@router.get("/{video}/history", summary="List a video's runs", responses=described(404))
def list_video_runs(video: VideoId, here: Here, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> RunPage:
    """Newest first; runs that failed before the video was stored are there too."""
    with here.database.read() as session:
        page = runs.page(session, video, limit=limit, cursor=cursor)
        if not page.items and cursor is None and videos.get(session, video) is None:
            raise NotFound(f"There is no video {video!r}, and it never had a run.")
    return RunPage.model_construct(items=[run(each) for each in page.items], next_cursor=page.next_cursor)


@router.get("/{video}/history/{run}", summary="Show a video's run", responses=described(404))
def get_video_run(
    video: VideoId,
    here: Here,
    run_id: Annotated[str, Path(alias="run", max_length=100, description="The run's `id` in the history")],
) -> RunDetails:
    """With its stages, their times and errors, for a day after its end."""
    with here.database.read() as session:
        view = runs.get(session, video, run_id)
    if view is None:
        raise NotFound(f"Video {video!r} has no run {run_id!r}.", hint=f"/api/pipeline/{video}/history lists its runs.")
    kept = None
    with suppress(ServiceUnavailable):
        kept = here.status.read_run(video, view.started_at)
    return run_details(view, kept)


@router.get("/failures", summary="List failures", responses=described())
def list_failures(here: Here, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> FailurePage:
    """Videos whose newest run failed or ended partial, and that nothing has been asked of since; newest run first."""
    with here.database.read() as session:
        page = failures.page(session, limit=limit, cursor=cursor)
    return FailurePage.model_construct(items=[failure(each) for each in page.items], next_cursor=page.next_cursor)


@router.get("/recent", summary="List recent runs", responses=described())
def list_recent_runs(here: Here, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> RunPage:
    """The runs of all videos, newest first."""
    with here.database.read() as session:
        page = runs.recent(session, limit=limit, cursor=cursor)
    return RunPage.model_construct(items=[run(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("/{video}/cancel", summary="Cancel a video's pipeline", status_code=202, responses=described(404, 409))
def cancel_pipeline(video: VideoId, here: Here) -> Cancelling:
    """Ends what is queued or running, within seconds. 409 when there is nothing to cancel."""
    return Cancelling(video_id=video, request_id=cancel(here, video), status_url=f"/api/pipeline/{video}/status")


@router.post("/{video}/retry", summary="Retry a video's pipeline", status_code=202, responses=described(404, 409))
def retry_pipeline(video: VideoId, here: Here, idempotency_key: IdempotencyKey = None) -> Started:
    """Does what the last run left undone, as it was asked for; what it finished is kept. 409 while a request is active,
    and when the last run completed."""
    started = submission.retry(here, video, idempotency_key)
    return Started(
        video_id=video,
        request_id=started.request_id or "",
        pipeline_type=started.pipeline_type,
        status_url=f"/api/pipeline/{video}/status",
    )


def _start(here: Here, video: str, body: StartPipeline, idempotency_key: str | None) -> Started:
    webhook = body.webhook(here.settings)
    started = submission.start(here, video, body.pipeline_type, body.config, idempotency_key, webhook)
    return Started(
        video_id=video,
        request_id=started.request_id or "",
        pipeline_type=body.pipeline_type,
        status_url=f"/api/pipeline/{video}/status",
    )
