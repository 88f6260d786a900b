"""Reading on an event loop, for what is asked most: no thread, prepared statements, one round trip a query.

Not here: units of work and everything that is read rarely (db/session.py). Why there are two: docs/decisions/0009.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import URL, Executable
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from db.query import Query
from videomoments_dagster.errors import InvalidInput, ServiceUnavailable

Result = TypeVar("Result")
_CONNECT_PARAMETERS = {
    "service", "host", "port", "user", "password", "dbname", "passfile", "krbsrvname", "gsslib", "target_session_attrs",
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
}  # fmt: skip
"""Of libpq's, those that asyncpg knows; others (keepalives, time-outs) would be sent as settings of the server."""
_SERVER_SETTINGS = {"application_name", "options"}
_ROUND_TRIP_SECONDS = 2.0
"""More than the server gives a statement: then it is the connection that does not answer."""
_CLOSE_SECONDS = 2.0
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it is shut down, or starts
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


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
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connections] = WeakKeyDictionary()

    async def run(self, query: Query[Result]) -> Result:
        """What the query asks for. Raises ServiceUnavailable when the server is away, too slow, or every connection is
        busy, InvalidInput for a value that PostgreSQL refuses, and what the query raises."""
        compiled = _compiled(query.statement)
        loop = asyncio.get_running_loop()
        if (connections := self._loops.get(loop)) is None:
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
        connection: Any = await asyncpg.connect(
            _dsn(self._address),
            timeout=self._limits.connect_seconds,
            command_timeout=None if self._limits.seconds is None else self._limits.seconds + _ROUND_TRIP_SECONDS,
            server_settings=_server_settings(self._address),
        )
        try:
            await connection.execute(self._set_up)
        except BaseException:
            connection.terminate()
            raise
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
        self._is_over = False

    async def fetch(self, sql: str, arguments: list[Any]) -> list[asyncpg.Record]:
        connection = self._open_one() or await self._connect()
        try:
            rows = await connection.fetch(sql, *arguments)
        except asyncpg.PostgresError:  # an answer, after which others can be had
            self._keep(connection)
            raise
        except BaseException:  # cancelled, too late, or broken: the answer may still come
            connection.terminate()
            raise
        self._keep(connection)
        return rows

    def _keep(self, connection: asyncpg.Connection) -> None:
        if self._is_over:
            connection.terminate()
        else:
            self._idle.append(connection)

    def _open_one(self) -> asyncpg.Connection | None:
        """The one used last: the others may be closed by who is in between."""
        while self._idle:
            if not (connection := self._idle.pop()).is_closed():
                return connection
        return None

    async def close(self) -> None:
        self._is_over = True
        for connection in self._idle:
            with suppress(TimeoutError, *_AWAY):
                await connection.close(timeout=_CLOSE_SECONDS)

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


_DIALECT = dialect()


def _dsn(address: URL) -> str:
    kept = {name: value for name, value in address.query.items() if name in _CONNECT_PARAMETERS}
    return address.set(drivername="postgresql", query=kept).render_as_string(hide_password=False)


def _server_settings(address: URL) -> dict[str, str]:
    given = {name: str(value) for name, value in address.query.items() if name in _SERVER_SETTINGS}
    return {"application_name": "videomoments", **given}


@contextmanager
def _named_errors(server: str) -> Iterator[None]:
    """asyncpg's failures by the names that `db.session.named_errors` gives psycopg2's."""
    try:
        yield
    except (TimeoutError, asyncpg.QueryCanceledError) as error:
        raise ServiceUnavailable(
            f"PostgreSQL at {server} took too long to answer.", hint="Ask for less, or try again later."
        ) from error
    except (asyncpg.DataError, asyncpg.exceptions.DataError) as error:
        raise InvalidInput(f"PostgreSQL refused a value: {_first_line(error)}.") from error
    except _AWAY as error:
        raise ServiceUnavailable(f"PostgreSQL at {server} does not answer: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
