"""Reading on an event loop, for what is asked most: no thread, prepared statements, one round trip a query.

Not here: units of work and everything that is read rarely (db/session.py). Why there are two: docs/decisions/0009.
"""

import asyncio
from collections.abc import Iterator, Mapping
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
    connect_seconds: float
    seconds: float | None


class AsyncReads:
    """Read-only connections, a pool for each event loop that asks; nothing is opened before the first query."""

    def __init__(self, address: URL, name: str, set_up: str, limits: ReadLimits) -> None:
        """`name` is the server's in messages, `set_up` the SQL that every new connection begins with."""
        self._address, self._name, self._set_up, self._limits = address, name, set_up, limits
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    async def run(self, query: Query[Result]) -> Result:
        """What the query asks for. Raises ServiceUnavailable when the server is away, too slow, or every connection is
        busy, InvalidInput for a value that PostgreSQL refuses, and what the query raises."""
        compiled = _compiled(query.statement)
        with _named_errors(self._name):
            rows = await self._fetch(compiled, compiled.arguments(query.values))
        return query.result(rows)

    async def _fetch(self, compiled: "_Compiled", arguments: list[Any]) -> list[asyncpg.Record]:
        loop = asyncio.get_running_loop()
        found = self._pools.get(loop)
        if found is None:  # entered at once: who comes second must not make another one
            found = self._pools[loop] = _Pool(self._made(), asyncio.Semaphore(self._limits.connections))
        # who waits for a connection waits in line: asyncpg gives one that comes free to whoever asks next
        if found.turns.locked():
            try:
                await asyncio.wait_for(found.turns.acquire(), self._limits.wait_seconds)
            except TimeoutError as error:
                raise ServiceUnavailable(f"Every connection to PostgreSQL at {self._name} is busy.") from error
        else:
            await found.turns.acquire()
        try:
            await found.pool
            connection = await found.pool.acquire()
            try:
                return await connection.fetch(compiled.sql, *arguments)
            finally:
                await found.pool.release(connection)
        finally:
            found.turns.release()

    def _made(self) -> Any:
        return asyncpg.create_pool(
            _dsn(self._address),
            min_size=0,
            max_size=self._limits.connections,
            init=self._begin,
            reset=_leave,
            timeout=self._limits.connect_seconds,
            command_timeout=None if self._limits.seconds is None else self._limits.seconds + _ROUND_TRIP_SECONDS,
            server_settings=_server_settings(self._address),
        )

    async def _begin(self, connection: Any) -> None:
        await connection.execute(self._set_up)

    async def close(self) -> None:
        """Close the connections of this event loop, once they have answered. The object can be used again."""
        found = self._pools.pop(asyncio.get_running_loop(), None)
        if found is not None:
            try:
                await asyncio.wait_for(found.pool.close(), _CLOSE_SECONDS)
            except (TimeoutError, *_AWAY):
                found.pool.terminate()

    def dispose(self) -> None:
        """Break the connections of all event loops: for who is on none."""
        for loop, found in list(self._pools.items()):
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                loop.call_soon_threadsafe(found.pool.terminate)
        self._pools.clear()


@dataclass(frozen=True, slots=True)
class _Pool:
    pool: Any
    turns: asyncio.Semaphore


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


async def _leave(_connection: Any) -> None:
    """Nothing that a query does outlives it: the round trip that would clean up after it is not needed."""


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
