"""What a video is doing: is a request active, and how far is it. Redis is asked first, PostgreSQL is believed."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio.to_thread
from sqlalchemy.orm import Session

from api.problems import PipelineActive
from api.services import Services
from db.models import PipelineRequest
from db.queries import requests, runs, transcripts, videos
from db.queries.runs import RunView
from videomoments_dagster.errors import NotFound, ServiceUnavailable
from videomoments_dagster.requests.stages import STAGES_OF, PipelineType, Stage
from videomoments_dagster.requests.status import PipelineStatus, StageStatus

_OVER = {"finished", "rejected"}


def refuse_if_active(session: Session, services: Services, video: str) -> None:
    """Raises PipelineActive while a request waits or runs, or a run from the Dagster UI holds the lock.

    A lock whose request is over (Redis was away when it ended) is released, unless history has a run that goes on: the
    request's run, executed again in the UI. Raises ServiceUnavailable without Redis.
    """
    active = requests.active(session, video)
    if active:
        raise PipelineActive(video, active.request_id)
    owner = services.lock.owner(video)
    if owner is None:
        return
    request = requests.get(session, owner)
    if request is None or request.state not in _OVER or runs.running(session, video):
        raise PipelineActive(video, owner)
    services.lock.release(video, owner)


def status_of(services: Services, video: str) -> PipelineStatus:
    """The live status, or what PostgreSQL kept of it. Raises NotFound when the video never had a request or run."""
    live = None
    with suppress(ServiceUnavailable):
        live = services.status.read(video)
    return _with_rows(services, video, live)


async def status_now(services: Services, video: str) -> PipelineStatus:
    """`status_of`, on an event loop: a thread only where rows have to say more than Redis does."""
    live = None
    with suppress(ServiceUnavailable):
        live = await services.live.read(video)
    if live and not _is_placed(live):
        return live
    return await anyio.to_thread.run_sync(_with_rows, services, video, live)


def _with_rows(services: Services, video: str, live: PipelineStatus | None) -> PipelineStatus:
    status = live or _status_of_rows(services, video)
    if not _is_placed(status):
        return status
    with suppress(ServiceUnavailable), services.database.read() as session:
        return replace(status, queue_position=requests.queue_position(session, str(status.request_id)))
    return status


def _is_placed(status: PipelineStatus) -> bool:
    """Whether it has a place in the queue, which rows know."""
    return status.status == "queued" and status.request_id is not None


def _status_of_rows(services: Services, video: str) -> PipelineStatus:
    with services.database.read() as session:
        request = requests.newest(session, video)
        run = next(iter(runs.page(session, video, limit=1).items), None)
        if request is None and run is None:
            known = videos.get(session, video) is not None
            raise NotFound(
                f"Nothing was ever processed for video {video!r}." if known else f"There is no video {video!r}.",
                hint="Submit it, or start its pipeline.",
            )
        return _kept(video, request, run, _reason(session, video, run))


def _reason(session: Session, video: str, run: RunView | None) -> str | None:
    """Why a completed run has no moments."""
    row = videos.get(session, video)
    if row is None or run is None or run.status != "completed" or run.total_moments_generated != 0:
        return None
    transcript = transcripts.get(session, row.id)
    return "No speech was heard." if transcript and not transcript.number_of_words else "No moments were found."


def _kept(video: str, request: PipelineRequest | None, run: RunView | None, reason: str | None) -> PipelineStatus:
    """A status from rows. A run is the request's when it did not start before it."""
    if request and run and run.started_at < request.requested_at:
        run = None
    state = run.status if run else {"queued": "queued", "launched": "running"}.get(request.state if request else "")
    kind = PipelineType(request.pipeline_type if request else run.pipeline_type if run else "full")
    error = _error(request, run)
    completed_at = run.completed_at if run else None
    return PipelineStatus(
        video_id=video,
        request_id=request.request_id if request else None,
        run_id=request.run_id if request else None,
        pipeline_type=kind,
        status=state or ("failed" if error else "completed"),
        queued_at=request.requested_at.isoformat() if request else None,
        started_at=run.started_at.isoformat() if run else None,
        completed_at=completed_at.isoformat() if completed_at else None,
        error=error,
        reason=reason,
        stages=tuple(_stages(kind, state or "", error)),
    )


def _stages(kind: PipelineType, state: str, error: dict[str, Any] | None) -> list[StageStatus]:
    """Times of stages are not kept in rows; what is certain of each stage is its order and where the run failed."""
    order = list(Stage)
    failed = order.index(Stage(error["stage"])) if error and error["stage"] in set(order) else None
    stages = []
    for position, stage in enumerate(order):
        if stage not in STAGES_OF[kind]:
            word = "skipped"
        elif state == "completed" or (failed is not None and position < failed):
            word = "completed"
        elif position == failed:
            word = "failed"
        else:
            word = "pending"
        stages.append(
            StageStatus(stage, word, None, None, float(word == "completed"), error if word == "failed" else None)
        )
    return stages


def _error(request: PipelineRequest | None, run: RunView | None) -> dict[str, Any] | None:
    if request and request.error:
        with suppress(ValueError, TypeError):
            return {"stage": None, "hint": "", "retryable": False, **json.loads(request.error)}
        return _plain(None, request.error)
    return _plain(run.error_stage, run.error_message) if run and run.error_message else None


def _plain(stage: str | None, message: str) -> dict[str, Any]:
    return {"stage": stage, "code": "failed", "message": message, "hint": "", "retryable": False}
