"""Numbers about everything there is, for monitoring: the queue from its indexes, totals by reading whole tables.

Totals cost in proportion to the library (see docs/operation.md); whoever asks keeps them for a while.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2 import errorcodes
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.models import Clip, PipelineRequest, PipelineRun, Thumbnail, Video
from videomoments_dagster.errors import ServiceUnavailable

_LONGEST_MS = 5_000


@dataclass(frozen=True, slots=True)
class Queue:
    """Requests without an end. `oldest_seconds` is how long the first one in the queue has waited; 0 without one."""

    queued: int
    launched: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Rows by state, status and kind. `bytes` is as rows tell it, in whole kB; sound and raw answers have none."""

    requests: dict[str, int]
    runs: dict[str, int]
    bytes: dict[str, int]
    objects: dict[str, int]


def queue(session: Session) -> Queue:
    """Raises ServiceUnavailable when PostgreSQL takes longer than 5 s for one of its parts."""
    waiting = PipelineRequest.state == "queued"
    age = func.extract("epoch", func.now() - func.min(PipelineRequest.requested_at))
    launched = select(func.count()).where(PipelineRequest.state == "launched")
    with _in_time(session):
        queued, oldest = session.execute(select(func.count(), age).where(waiting)).one()
        return Queue(queued, session.scalar(launched) or 0, max(0.0, float(oldest or 0)))


def totals(session: Session) -> Totals:
    """Raises ServiceUnavailable when PostgreSQL takes longer than 5 s for one of them; it is told so for this
    transaction, which `session` must be in."""
    with _in_time(session):
        return _totals(session)


@contextmanager
def _in_time(session: Session) -> Iterator[None]:
    try:
        session.execute(select(func.set_config("statement_timeout", str(_LONGEST_MS), True)))
        yield
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != errorcodes.QUERY_CANCELED:
            raise
        raise ServiceUnavailable(f"PostgreSQL did not count all rows within {_LONGEST_MS} ms.") from error


def _totals(session: Session) -> Totals:
    by_state = select(PipelineRequest.state, func.count()).group_by(PipelineRequest.state)
    by_status = select(PipelineRun.status, func.count()).group_by(PipelineRun.status)
    sizes = {
        kind: session.execute(select(func.count(table.id), func.coalesce(func.sum(table.file_size_kb), 0))).one()
        for kind, table in (("video", Video), ("clip", Clip), ("thumbnail", Thumbnail))
    }
    return Totals(
        requests=dict(session.execute(by_state).tuples().all()),
        runs=dict(session.execute(by_status).tuples().all()),
        bytes={kind: int(kilobytes) * 1024 for kind, (_, kilobytes) in sizes.items()},
        objects={kind: count for kind, (count, _) in sizes.items()},
    )
