"""Deliveries to webhooks: what is to be told of requests that have ended, who tells it now, and how it went.

A delivery is due, pending, while `next_attempt_at` is set. Who claims one moves that ahead first: what dies while it
tells has only put it off.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Text, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from db.models import Moment, PipelineRequest, Video, WebhookDelivery
from db.queries.paging import DEFAULT_LIMIT, Keyset, Page

State = Literal["pending", "delivered", "failed"]
MOST_LOOKED_AT = 10_000
"""Of what is due, the oldest: among them receivers take turns."""
_STATES: dict[State, Any] = {
    "pending": WebhookDelivery.next_attempt_at.is_not(None),
    "delivered": WebhookDelivery.next_attempt_at.is_(None) & WebhookDelivery.delivered_at.is_not(None),
    "failed": WebhookDelivery.next_attempt_at.is_(None) & WebhookDelivery.delivered_at.is_(None),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """A request as its webhook is told of it. `number_of_moments`: root moments of its video."""

    request_id: str
    run_id: str | None
    video_identifier: str
    pipeline_type: str
    number_of_moments: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery to tell now. `attempts` counts this one; `receiver` is the URL's host and port."""

    identifier: str
    url: str
    receiver: str
    secret: str | None
    payload: dict[str, Any]
    attempts: int

    def __repr__(self) -> str:
        return f"Claimed({self.identifier!r}, attempts={self.attempts})"


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """`url` is the webhook's whole URL: not for everybody's eyes."""

    identifier: str
    request_id: str
    video_identifier: str
    event: str
    url: str
    state: State
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    created_at: datetime
    payload: dict[str, Any]


def record(session: Session, request_id: str, event: str, make_payload: Callable[[Ended], dict[str, Any]]) -> bool:
    """Note that the request's webhook is to be told of its `event`: once, however often it is noted. False when it has
    no webhook."""
    counted = (
        select(func.count())
        .select_from(Moment)
        .join(Video, Video.id == Moment.video_id)
        .where(Video.identifier == PipelineRequest.video_identifier, ~Moment.is_refined)
        .correlate(PipelineRequest)
        .scalar_subquery()
    )
    row = session.execute(
        select(
            PipelineRequest.request_id,
            PipelineRequest.run_id,
            PipelineRequest.video_identifier,
            PipelineRequest.pipeline_type,
            counted.label("number_of_moments"),
        ).where(PipelineRequest.request_id == request_id, PipelineRequest.webhook_url.is_not(None))
    ).one_or_none()
    if row is None:
        return False
    session.execute(
        insert(WebhookDelivery)
        .values(
            identifier=f"msg_{uuid.uuid4().hex}",
            request_id=request_id,
            event=event,
            payload=make_payload(Ended(**row._mapping)),
            next_attempt_at=func.now(),
        )
        .on_conflict_do_nothing()
    )
    return True


def claim(
    session: Session, *, limit: int, per_receiver: int, lease_seconds: float, busy: Iterable[str] = ()
) -> list[Claimed]:
    """What is due: at most `limit`, of one receiver at most `per_receiver`, in turns. Each is this caller's until
    `lease_seconds` have passed or `settle` is called. `busy`: the receivers of what the caller has claimed before and
    not settled yet, which counts."""
    due = (
        select(WebhookDelivery.id, WebhookDelivery.request_id, WebhookDelivery.next_attempt_at)
        .where(WebhookDelivery.next_attempt_at <= func.now())
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(MOST_LOOKED_AT)
        .subquery()
    )
    host = func.lower(func.split_part(PipelineRequest.webhook_url, "/", 3))
    place = func.row_number().over(partition_by=host, order_by=(due.c.next_attempt_at, due.c.id))
    told_now = func.cardinality(func.array_positions(cast([*busy], ARRAY(Text)), host))
    turns = (
        select(due.c.id, due.c.next_attempt_at, (place + told_now).label("turn"))
        .join(PipelineRequest, PipelineRequest.request_id == due.c.request_id)
        .subquery()
    )
    chosen = (
        select(turns.c.id)
        .where(turns.c.turn <= per_receiver)
        .order_by(turns.c.turn, turns.c.next_attempt_at)
        .limit(limit)
    )
    rows = session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.id.in_(chosen),
            WebhookDelivery.next_attempt_at <= func.now(),  # somebody else's claim, committed since, counts
            PipelineRequest.request_id == WebhookDelivery.request_id,
        )
        .values(
            attempts=WebhookDelivery.attempts + 1,
            last_attempt_at=func.now(),
            next_attempt_at=func.now() + timedelta(seconds=lease_seconds),
        )
        .returning(
            WebhookDelivery.identifier,
            PipelineRequest.webhook_url,
            host,
            PipelineRequest.webhook_secret,
            WebhookDelivery.payload,
            WebhookDelivery.attempts,
        ),
        execution_options={"synchronize_session": False},
    )
    return [Claimed(*row) for row in rows if row.webhook_url]


def settle(
    session: Session,
    claimed: Claimed,
    *,
    is_delivered: bool,
    status: int | None,
    error: str | None,
    pause_seconds: float | None,
) -> bool:
    """How the attempt went; `pause_seconds` until the next one, None when there is none. False, and nothing is noted,
    when the delivery was asked for again or claimed by somebody else since."""
    settled = session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.identifier == claimed.identifier, WebhookDelivery.attempts == claimed.attempts)
        .values(
            last_status=status,
            last_error=error,
            delivered_at=func.now() if is_delivered else None,
            next_attempt_at=None if pause_seconds is None else func.now() + timedelta(seconds=pause_seconds),
        )
        .returning(WebhookDelivery.id)
    )
    return settled.first() is not None


def redeliver(session: Session, identifier: str) -> DeliveryView | None:
    """Tell it again, from now on with all attempts; None when there is no such delivery."""
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.identifier == identifier)
        .values(attempts=0, next_attempt_at=func.now(), delivered_at=None)
    )
    row = session.execute(_views().where(WebhookDelivery.identifier == identifier)).one_or_none()
    return _view(row) if row else None


def page(
    session: Session,
    *,
    request_id: str | None = None,
    video: str | None = None,
    state: State | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[DeliveryView]:
    """Newest first. Raises InvalidInput for a cursor that no page gave."""
    statement = _views()
    if request_id is not None:
        statement = statement.where(WebhookDelivery.request_id == request_id)
    if video is not None:
        statement = statement.where(PipelineRequest.video_identifier == video)
    if state is not None:
        statement = statement.where(_STATES[state])
    keyset = Keyset(statement, time=WebhookDelivery.created_at, identifier=WebhookDelivery.identifier)
    return keyset.fetch(session, limit=limit, cursor=cursor, make=_view)


def prune(session: Session, before: datetime, limit: int) -> int:
    """Remove deliveries made before `before`, the oldest first, at most `limit`; returns how many. One that is still to
    be told stays."""
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.created_at < before, WebhookDelivery.next_attempt_at.is_(None))
        .order_by(WebhookDelivery.created_at, WebhookDelivery.identifier)
        .limit(limit)
    )
    return len(session.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)).returning(1)).all())


def _views() -> Any:
    return select(
        WebhookDelivery.identifier,
        WebhookDelivery.request_id,
        PipelineRequest.video_identifier,
        WebhookDelivery.event,
        PipelineRequest.webhook_url,
        WebhookDelivery.attempts,
        WebhookDelivery.next_attempt_at,
        WebhookDelivery.last_attempt_at,
        WebhookDelivery.last_status,
        WebhookDelivery.last_error,
        WebhookDelivery.delivered_at,
        WebhookDelivery.created_at,
        WebhookDelivery.payload,
    ).join(PipelineRequest, PipelineRequest.request_id == WebhookDelivery.request_id)


def _view(row: Any) -> DeliveryView:
    state: State = "pending" if row.next_attempt_at else "delivered" if row.delivered_at else "failed"
    return DeliveryView(
        identifier=row.identifier,
        request_id=row.request_id,
        video_identifier=row.video_identifier,
        event=row.event,
        url=row.webhook_url,
        state=state,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        last_attempt_at=row.last_attempt_at,
        last_status=row.last_status,
        last_error=row.last_error,
        delivered_at=row.delivered_at,
        created_at=row.created_at,
        payload=row.payload,
    )
