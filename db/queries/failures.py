"""Failures that still stand: videos whose newest run ended failed or partial, and nothing has been asked for since."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from db.models import PipelineRequest, PipelineRun, Video
from db.queries.paging import DEFAULT_LIMIT, MAX_LIMIT, Keyset, Page
from db.queries.requests import ACTIVE


@dataclass(frozen=True, slots=True)
class FailureView:
    """`code` and `retryable` are None when no request tells: the run was started in the Dagster UI. Its message then
    has the hint at its end."""

    video_identifier: str
    run_identifier: str
    status: str
    failed_at: datetime
    stage: str | None
    code: str | None
    message: str
    hint: str
    retryable: bool | None
    request_id: str | None


def page(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[FailureView]:
    """Newest first: by when their runs began."""
    stored = select(Video.identifier).where(Video.id == PipelineRun.video_id).correlate(PipelineRun).scalar_subquery()
    key = func.split_part(PipelineRun.identifier, ":", 2)
    name = func.coalesce(stored, key)
    newer, newest = aliased(PipelineRun), aliased(PipelineRequest)
    same_video = or_(
        newer.video_id == PipelineRun.video_id,
        and_(
            PipelineRun.video_id.is_(None),
            newer.video_id.is_(None),
            func.split_part(newer.identifier, ":", 2) == key,
        ),
    )
    request = (
        select(newest.request_id, newest.error)
        .where(newest.video_identifier == name, newest.requested_at <= PipelineRun.started_at)
        .order_by(newest.requested_at.desc(), newest.id.desc())
        .limit(1)
        .lateral("request")
    )
    statement = (
        select(
            PipelineRun.identifier,
            PipelineRun.started_at,
            PipelineRun.completed_at,
            PipelineRun.status,
            PipelineRun.error_stage,
            PipelineRun.error_message,
            name.label("video_identifier"),
            request.c.request_id,
            request.c.error,
        )
        .join(request, true(), isouter=True)
        .where(
            PipelineRun.status.in_(("failed", "partial")),
            ~exists().where(same_video, newer.started_at > PipelineRun.started_at),
            ~exists().where(PipelineRequest.video_identifier == name, PipelineRequest.state.in_(ACTIVE)),
        )
    )
    keyset = Keyset(statement, time=PipelineRun.started_at, identifier=PipelineRun.identifier)
    return keyset.fetch(session, limit=limit, cursor=cursor, make=_view)


def every(session: Session) -> Iterator[FailureView]:
    """All of them, a page in memory at a time."""
    cursor = None
    while True:
        found = page(session, limit=MAX_LIMIT, cursor=cursor)
        yield from found.items
        cursor = found.next_cursor
        if cursor is None:
            return


def _view(row: Any) -> FailureView:
    error = _error(row.error, row.error_stage, row.error_message)
    return FailureView(
        video_identifier=row.video_identifier,
        run_identifier=row.identifier,
        status=row.status,
        failed_at=row.completed_at or row.started_at,
        stage=row.error_stage,
        code=error.get("code"),
        message=error.get("message") or row.error_message or "The run failed.",
        hint=error.get("hint") or "",
        retryable=error.get("retryable"),
        request_id=row.request_id if error else None,
    )


def _error(stored: str | None, stage: str | None, told: str | None) -> dict[str, Any]:
    """The request's error, if it is this run's: a later one from the UI has none of its own. History has message and
    hint as one text."""
    try:
        error = json.loads(stored or "{}")
    except ValueError:
        return {}
    same = isinstance(error, dict) and error.get("stage") == stage
    return error if same and f"{error.get('message')} {error.get('hint')}".strip() == told else {}
