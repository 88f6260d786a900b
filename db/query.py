"""A query as a value, so that it is written once: a session asks it, or an event loop does (db/async_reads.py)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Executable
from sqlalchemy.orm import Session

Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True, slots=True)
class Query(Generic[Result]):
    """`statement` is built once, at import: building it costs more than asking it. `values` are its parameters,
    `result` makes of its rows, tuples in the order of its columns, what is asked for; it may raise NotFound."""

    statement: Executable
    values: Mapping[str, Any]
    result: Callable[[Sequence[Any]], Result]
    is_long: bool = False
    """It takes PostgreSQL some milliseconds: on an event loop, such queries never take all connections."""

    def run(self, session: Session) -> Result:
        return self.result(session.execute(self.statement, dict(self.values)).all())
