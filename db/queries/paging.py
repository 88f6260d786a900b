"""Keyset pages: newest first by (time, identifier), any depth at the same price. Cursors are opaque to callers."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Integer, Select, bindparam, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.query import Query
from videomoments_dagster.errors import InvalidInput

_NOTHING: Mapping[str, Any] = {}
MAX_LIMIT = 200
DEFAULT_LIMIT = 50
MAX_UNPAGED = 10_000  # moments of one video: a finder gives some hundreds for ten hours

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """`next_cursor` is None on the last page."""

    items: list[Item]
    next_cursor: str | None


class Keyset:
    """`statement` in pages, newest first. It must select `time` and `identifier`. Made once where it is always the
    same: building a statement costs more than asking."""

    def __init__(
        self, statement: Select[Any], *, time: InstrumentedAttribute[datetime], identifier: InstrumentedAttribute[str]
    ) -> None:
        in_order = statement.order_by(time.desc(), identifier.desc()).limit(bindparam("rows", type_=Integer))
        after = tuple_(time, identifier) < tuple_(bindparam("after_time", type_=time.type), bindparam("after_name"))
        names = list(statement.selected_columns.keys())
        self._time_at, self._identifier_at = names.index(time.key), names.index(identifier.key)
        self._first, self._next = in_order, in_order.where(after)

    def query(
        self,
        *,
        limit: int,
        cursor: str | None,
        make: Callable[[Any], Item],
        values: Mapping[str, Any] = _NOTHING,
    ) -> Query[Page[Item]]:
        """One page; `values` are the statement's own. Raises InvalidInput for a limit outside 1..200 and for a cursor
        that no page gave."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"A page has 1 to {MAX_LIMIT} items, not {limit}.")
        given: dict[str, Any] = {**values, "rows": limit + 1}
        if cursor is not None:
            given["after_time"], given["after_name"] = _decode(cursor)

        def page(rows: Sequence[Any]) -> Page[Item]:
            more = len(rows) > limit
            next_cursor = (
                _encode(rows[limit - 1][self._time_at], rows[limit - 1][self._identifier_at]) if more else None
            )
            return Page([make(row) for row in rows[:limit]], next_cursor)

        return Query(self._next if cursor is not None else self._first, given, page)

    def fetch(self, session: Session, *, limit: int, cursor: str | None, make: Callable[[Any], Item]) -> Page[Item]:
        """The page that `query` asks for."""
        return self.query(limit=limit, cursor=cursor, make=make).run(session)


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
