"""Pipeline requests: what was asked for, and how far it has come. queued -> launched -> finished."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import PipelineRequest, Video
from db.queries.locks import lock_identifier

UPLOADED = "upload"  # where a video without a source URL came from
MOST_COUNTED = 10_000  # a place further back in the queue is as good as any other
ACTIVE = ("queued", "launched")
"""The states of a request that has not ended."""
_NEWEST_FIRST = (PipelineRequest.requested_at.desc(), PipelineRequest.id.desc())


def lock_video(session: Session, video_identifier: str) -> None:
    """Until the transaction ends, nobody else gets past this for the same video: look for an active request, then
    create one."""
    lock_identifier(session, video_identifier)


def create(
    session: Session,
    *,
    request_id: str,
    video_identifier: str,
    source_url: str | None,
    pipeline_type: str,
    config: Mapping[str, Any],
    idempotency_key: str | None = None,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
) -> PipelineRequest:
    """Insert a queued request. When its id or its idempotency key is known already, the row that has it: compare
    `request_id` to tell."""
    session.execute(
        insert(PipelineRequest)
        .values(
            request_id=request_id,
            video_identifier=video_identifier,
            source_url=source_url,
            pipeline_type=pipeline_type,
            config=dict(config),
            idempotency_key=idempotency_key,
            webhook_url=webhook_url,
            webhook_secret=webhook_secret,
            state="queued",
        )
        .on_conflict_do_nothing()
    )
    request = get(session, request_id)
    if request is None and idempotency_key is not None:
        request = by_idempotency_key(session, idempotency_key)
    assert request is not None  # noqa: S101  # inserted, or in conflict with one of the two
    return request


def get(session: Session, request_id: str) -> PipelineRequest | None:
    return session.scalar(select(PipelineRequest).where(PipelineRequest.request_id == request_id))


def by_idempotency_key(session: Session, key: str) -> PipelineRequest | None:
    return session.scalar(select(PipelineRequest).where(PipelineRequest.idempotency_key == key))


def newest(session: Session, video_identifier: str) -> PipelineRequest | None:
    return _newest(session, PipelineRequest.video_identifier == video_identifier)


def newest_for_all_moments(session: Session, video_identifier: str) -> PipelineRequest | None:
    """The newest request about the whole video: one that refines a single moment says nothing of the others."""
    return _newest(
        session, PipelineRequest.video_identifier == video_identifier, ~PipelineRequest.config.has_key("moment")
    )


def newest_with_source(session: Session, video_identifier: str) -> PipelineRequest | None:
    """The newest request that says where the video comes from: re-runs and uploads do not."""
    return _newest(
        session, PipelineRequest.video_identifier == video_identifier, PipelineRequest.source_url.is_not(None)
    )


def active(session: Session, video_identifier: str) -> PipelineRequest | None:
    """The newest request that waits or runs."""
    return _newest(session, PipelineRequest.video_identifier == video_identifier, PipelineRequest.state.in_(ACTIVE))


def queued_before(session: Session, moment: datetime, limit: int) -> list[PipelineRequest]:
    """Requests made before `moment` that no run has taken up, oldest first."""
    return list(
        session.scalars(
            select(PipelineRequest)
            .where(PipelineRequest.state == "queued", PipelineRequest.requested_at < moment)
            .order_by(PipelineRequest.requested_at, PipelineRequest.id)
            .limit(limit)
        )
    )


def unheard_before(session: Session, state: str, moment: datetime, limit: int) -> list[str]:
    """Ids of requests in one of the ACTIVE states that were last heard of before `moment`, oldest first."""
    return list(
        session.scalars(
            select(PipelineRequest.request_id)
            .where(PipelineRequest.state == state, PipelineRequest.updated_at < moment)
            .order_by(PipelineRequest.updated_at, PipelineRequest.id)
            .limit(limit)
        )
    )


def cancel(session: Session, request_id: str) -> bool:
    """Note that the request is to be cancelled. False when it is unknown or over."""
    return _move(session, request_id, ACTIVE, cancel_requested_at=func.now())


def to_cancel(session: Session, limit: int) -> list[PipelineRequest]:
    """Active requests that somebody wants cancelled, the oldest wish first."""
    return list(
        session.scalars(
            select(PipelineRequest)
            .where(PipelineRequest.state.in_(ACTIVE), PipelineRequest.cancel_requested_at.is_not(None))
            .order_by(PipelineRequest.cancel_requested_at, PipelineRequest.id)
            .limit(limit)
        )
    )


def is_deleted(session: Session, request_id: str) -> bool:
    """Whether the request's video was deleted, or is just being deleted."""
    state = session.scalar(select(PipelineRequest.state).where(PipelineRequest.request_id == request_id))
    return state is None or state == "rejected"


def is_unknown(session: Session, video_identifier: str) -> bool:
    """Whether there is neither a row nor a request of the video: it was deleted, or is just being deleted, or nobody
    ever asked for it."""
    if session.scalar(select(Video.id).where(Video.identifier == video_identifier)) is not None:
        return False
    last = newest(session, video_identifier)
    return last is None or last.state == "rejected"


def queue_position(session: Session, request_id: str) -> int | None:
    """1 for the request that is taken up next; None when it is not queued. Counted up to MOST_COUNTED."""
    mine = session.execute(
        select(PipelineRequest.requested_at, PipelineRequest.id).where(
            PipelineRequest.request_id == request_id, PipelineRequest.state == "queued"
        )
    ).one_or_none()
    if mine is None:
        return None
    before = (
        select(PipelineRequest.id)
        .where(
            PipelineRequest.state == "queued",
            tuple_(PipelineRequest.requested_at, PipelineRequest.id)
            < tuple_(literal(mine.requested_at), literal(mine.id)),
        )
        .limit(MOST_COUNTED - 1)
    )
    return 1 + (session.scalar(select(func.count()).select_from(before.subquery())) or 0)


def taken_identifier(session: Session, identifier: str) -> str | None:
    """Whose the identifier is: the source URL of its video, or of its newest request; UPLOADED when it came without
    one; None when it is free."""
    video = session.execute(select(Video.source_url).where(Video.identifier == identifier)).one_or_none()
    if video is not None:
        return video.source_url or UPLOADED
    request = newest_with_source(session, identifier) or newest(session, identifier)
    return (request.source_url or UPLOADED) if request else None


def claim(session: Session, candidates: Iterable[str], source_url: str) -> str | None:
    """Lock and return the first of `candidates` that is free or belongs to this URL already; None when none is."""
    for candidate in candidates:
        lock_video(session, candidate)
        if taken_identifier(session, candidate) in {None, source_url}:
            return candidate
    return None


def mark_launched(session: Session, request_id: str, run_id: str) -> bool:
    """False when the request is unknown or over. A run that is retried puts its new id here."""
    return _move(session, request_id, ACTIVE, state="launched", run_id=run_id)


def mark_finished(session: Session, request_id: str, error: str | None = None) -> bool:
    """False when the request is unknown or over."""
    return _move(session, request_id, ACTIVE, state="finished", error=error)


def _newest(session: Session, *conditions: Any) -> PipelineRequest | None:
    return session.scalar(select(PipelineRequest).where(*conditions).order_by(*_NEWEST_FIRST).limit(1))


def _move(session: Session, request_id: str, allowed: tuple[str, ...], **values: Any) -> bool:
    moved = session.execute(
        update(PipelineRequest)
        .where(PipelineRequest.request_id == request_id, PipelineRequest.state.in_(allowed))
        .values(**values)
        .returning(PipelineRequest.id),
        execution_options={"synchronize_session": "fetch"},
    )
    return moved.first() is not None
