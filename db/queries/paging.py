"""Keyset pages: newest first by (time, identifier), any depth at the same price. Cursors are opaque to callers."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Row, Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from videomoments_dagster.errors import InvalidInput

MAX_LIMIT = 200
DEFAULT_LIMIT = 50
MAX_UNPAGED = 10_000  # moments of one video: a finder gives some hundreds for ten hours

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """`next_cursor` is None on the last page."""

    items: list[Item]
    next_cursor: str | None


def fetch(
    session: Session,
    statement: Select[Any],
    *,
    time: InstrumentedAttribute[datetime],
    identifier: InstrumentedAttribute[str],
    limit: int,
    cursor: str | None,
    make: Callable[[Row[Any]], Item],
) -> Page[Item]:
    """One page of `statement`, newest first; one query. `statement` must select `time` and `identifier`.

    Raises InvalidInput for a limit outside 1..200 and for a cursor that no page gave.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"A page has 1 to {MAX_LIMIT} items, not {limit}.")
    if cursor is not None:
        statement = statement.where(_after(time, identifier, cursor))
    rows = session.execute(statement.order_by(time.desc(), identifier.desc()).limit(limit + 1)).all()
    items, more = rows[:limit], len(rows) > limit
    next_cursor = _encode(items[-1]._mapping[time], items[-1]._mapping[identifier]) if more else None
    return Page([make(row) for row in items], next_cursor)


def _after(
    time: InstrumentedAttribute[datetime], identifier: InstrumentedAttribute[str], cursor: str
) -> ColumnElement[bool]:
    at, name = _decode(cursor)
    return tuple_(time, identifier) < tuple_(literal(at), literal(name))


def _encode(at: datetime, identifier: str) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {identifier}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        at, _, identifier = base64.b64decode(padded, b"-_", validate=True).decode().partition(" ")
        moment = datetime.fromisoformat(at)
    except (ValueError, binascii.Error):
        moment = identifier = None
    if moment is None or moment.tzinfo is None or not identifier or "\0" in identifier:
        raise InvalidInput("The cursor is not one that a page gave.", hint="Leave it out to start at the newest.")
    return moment, identifier
