"""Reading on an event loop, for what is asked most: no thread, prepared statements, one round trip a query.

Not here: units of work and everything that is read rarely (db/session.py). Why there are two: docs/decisions/0009.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import URL, Executable
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from db.asyncpg_url import connect_arguments
from db.query import Query
from videomoments_dagster.errors import InvalidInput, ServiceUnavailable

Result = TypeVar("Result")
_ROUND_TRIP_SECONDS = 2.0
"""More than the server gives a statement: then it is the connection that does not answer."""
_CLOSE_SECONDS = 2.0
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it is shut down, or starts
    asyncpg.InsufficientResourcesError,
)
_NOT_OPENED = (
    OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
)  # fmt: skip
_BROKEN = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """`connections` at most, `wait_seconds` for one of them, `connect_seconds` to open one, `seconds` a statement."""

    connections: int
    wait_seconds: float
    connect_seconds: int
    seconds: float | None


class AsyncReads:
    """Read-only connections, some for each event loop that asks; nothing is opened before the first query."""

    def __init__(self, address: URL, name: str, set_up: str, limits: ReadLimits) -> None:
        """`name` is the server's in messages, `set_up` the SQL that every new connection begins with."""
        self._address, self._name, self._set_up, self._limits = address, name, set_up, limits
        self._loops: dict[asyncio.AbstractEventLoop, _Connections] = {}

    def check(self) -> None:
        """Raises InvalidConfig for a URL with something that this driver can't do as the other does."""
        connect_arguments(self._address)

    async def run(self, query: Query[Result]) -> Result:
        """What the query asks for. Raises ServiceUnavailable when the server is away, too slow, or every connection is
        busy, InvalidInput for a value that PostgreSQL refuses, and what the query raises."""
        compiled = _compiled(query.statement)
        loop = asyncio.get_running_loop()
        if (connections := self._loops.get(loop)) is None:
            for each in [each for each in self._loops if each.is_closed()]:  # what they hold holds them
                del self._loops[each]
            connections = self._loops[loop] = _Connections(self._connect, self._limits, self._name)
        with _named_errors(self._name):
            if query.is_long:
                async with connections.long_turns, connections.turns:
                    rows = await connections.fetch(compiled.sql, compiled.arguments(query.values))
            else:
                async with connections.turns:
                    rows = await connections.fetch(compiled.sql, compiled.arguments(query.values))
        return query.result(rows)

    async def _connect(self) -> asyncpg.Connection:
        """Whatever keeps a connection from being opened, the server is of no use then."""
        try:
            connection: Any = await asyncpg.connect(
                **connect_arguments(self._address),
                timeout=self._limits.connect_seconds,
                command_timeout=None if self._limits.seconds is None else self._limits.seconds + _ROUND_TRIP_SECONDS,
            )
            try:
                await connection.execute(self._set_up)
            except BaseException:
                connection.terminate()
                raise
        except TimeoutError as error:
            raise _away(self._name, "timeout expired") from error
        except _NOT_OPENED as error:
            raise _away(self._name, _first_line(error)) from error
        return connection

    async def close(self) -> None:
        """Close the connections of this event loop. The object can be used again."""
        if connections := self._loops.pop(asyncio.get_running_loop(), None):
            await connections.close()

    def dispose(self) -> None:
        """Break the connections of all event loops: for who is on none."""
        for loop, connections in list(self._loops.items()):
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                loop.call_soon_threadsafe(connections.terminate)
        self._loops.clear()


class _Turns:
    """At most so many at once, first come, first served."""

    def __init__(self, most: int, wait_seconds: float, server: str) -> None:
        self._semaphore = asyncio.Semaphore(most)
        self._wait_seconds, self._server = wait_seconds, server

    async def __aenter__(self) -> None:
        if not self._semaphore.locked():
            await self._semaphore.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_seconds):  # wait_for would make a task
                await self._semaphore.acquire()
        except TimeoutError as error:
            raise ServiceUnavailable(f"Every connection to PostgreSQL at {self._server} is busy.") from error

    async def __aexit__(self, *_: object) -> None:
        self._semaphore.release()


class _Connections:
    """Of one event loop; who has a turn finds one, or opens one. asyncpg's own pool takes as long as a small query,
    and gives a connection that comes free to whoever asks next, not to who has waited longest."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], limits: ReadLimits, server: str) -> None:
        self.turns = _Turns(limits.connections, limits.wait_seconds, server)
        self.long_turns = _Turns(max(1, limits.connections // 2), limits.wait_seconds, server)
        self._connect = connect
        self._idle: list[asyncpg.Connection] = []
        self._ending: set[asyncio.Future[None]] = set()
        self._is_over = False

    async def fetch(self, sql: str, arguments: list[Any]) -> list[asyncpg.Record]:
        if connection := self._open_one():
            try:
                return await self._fetch(connection, sql, arguments)
            except _BROKEN:
                if not connection.is_closed():
                    raise
        # what was open may have been cut while it was idle, which shows only now; who reads may ask again
        return await self._fetch(await self._connect(), sql, arguments)

    async def _fetch(self, connection: asyncpg.Connection, sql: str, arguments: list[Any]) -> list[asyncpg.Record]:
        try:
            rows = await connection.fetch(sql, *arguments)
        except asyncpg.PostgresError:  # an answer, after which others can be had
            self._keep(connection)
            raise
        except BaseException:  # cancelled, too late, or broken: the answer may still come
            self._end(connection)
            raise
        self._keep(connection)
        return rows

    def _end(self, connection: asyncpg.Connection) -> None:
        """Closed in its own time: first the server is asked to give the query up."""
        if not connection.is_closed():
            task = asyncio.ensure_future(_close(connection))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _keep(self, connection: asyncpg.Connection) -> None:
        if self._is_over:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)

    def _open_one(self) -> asyncpg.Connection | None:
        """The one used last: the others may be closed by who is in between."""
        while self._idle:
            if not (connection := self._idle.pop()).is_closed():
                return connection
        return None

    async def close(self) -> None:
        self._is_over = True
        await asyncio.gather(*map(_close, self._idle), *self._ending)

    def terminate(self) -> None:
        self._is_over = True
        for connection in self._idle:
            connection.terminate()


@dataclass(frozen=True, slots=True)
class _Compiled:
    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] if name in values else self.constants[name] for name in self.names]


@lru_cache(maxsize=256)
def _compiled(statement: Executable) -> _Compiled:
    compiled: Any = statement.compile(dialect=_DIALECT)  # pyright: ignore[reportAttributeAccessIssue]
    return _Compiled(str(compiled), tuple(compiled.positiontup or ()), dict(compiled.params))


_DIALECT = asyncpg_dialect.dialect()


async def _close(connection: asyncpg.Connection) -> None:
    with suppress(TimeoutError, *_BROKEN):  # closed all the same
        await connection.close(timeout=_CLOSE_SECONDS)


@contextmanager
def _named_errors(server: str) -> Iterator[None]:
    """asyncpg's failures by the names that `db.session.named_errors` gives psycopg2's."""
    try:
        yield
    except (TimeoutError, asyncpg.QueryCanceledError) as error:
        raise ServiceUnavailable(
            f"PostgreSQL at {server} took too long to answer.", hint="Ask for less, or try again later."
        ) from error
    except asyncpg.CharacterNotInRepertoireError as error:
        raise InvalidInput("A text holds a NUL character, or is not Unicode.", hint="Remove it.") from error
    except asyncpg.DataError as error:
        raise InvalidInput(f"PostgreSQL refused a value: {_first_line(error)}.") from error
    except _AWAY as error:
        raise _away(server, _first_line(error)) from error
    except (OSError, asyncpg.InterfaceError) as error:
        if isinstance(error, OSError) or "clos" in str(error):  # others say that we use it wrongly
            raise _away(server, _first_line(error)) from error
        raise


def _away(server: str, reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(f"PostgreSQL at {server} does not answer: {reason}")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
