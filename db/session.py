"""Connections and units of work. Sessions are opened inside the endpoint or asset that uses them, and end with it.

Not here: queries (db/queries), and where the database is (the caller gives a ready SQLAlchemy URL).
"""

import os
import select
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg2.errors import QueryCanceled
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from db.async_reads import AsyncReads, ReadLimits
from db.query import Query
from videomoments_dagster.errors import InvalidConfig, InvalidInput, ServiceUnavailable

Result = TypeVar("Result")
DRIVER = "postgresql+psycopg2"
CONNECT_TIMEOUT_SECONDS = 5
POOL_TIMEOUT_SECONDS = 10


class Database:
    """Connections to the product database: a pool for units of work, one for what only reads, and one for what an event
    loop reads. Nothing is opened before the first use.

    All set session state (time zone, keepalives, read-only): a connection must be one server session, direct or
    through a pooler that gives a session for as long as it is open. A pooler of transactions would hand a read-only
    session to who writes.
    """

    def __init__(
        self, url: str, *, pool_size: int = 5, max_overflow: int = 10, read_seconds: float | None = None
    ) -> None:
        """`url` starts with `postgresql+psycopg2://`; anything else raises InvalidConfig. At most `pool_size` with half
        the overflow write at once, as many read in threads, and `pool_size` on an event loop. A statement that only
        reads is given up after `read_seconds`."""
        address = parse_url(url)
        self._name = server_name(address)
        common: dict[str, Any] = {
            "pool_size": pool_size,
            "pool_timeout": POOL_TIMEOUT_SECONDS,
            "pool_use_lifo": True,
            "max_overflow": max_overflow // 2,
            "connect_args": connect_arguments(address),
            "hide_parameters": True,  # errors are logged, and values may be secret
        }
        set_up_reader = _reader_set_up(read_seconds)
        self.engine: Engine = create_engine(address, **common)
        self.reader: Engine = create_engine(
            address, **common, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
        )
        limits = ReadLimits(pool_size, POOL_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS, read_seconds)
        self._async_reads = AsyncReads(address, self._name, set_up_reader, limits)
        event.listen(self.engine, "connect", _set_up(_SET_UP))
        event.listen(self.reader, "connect", _set_up(set_up_reader))
        for engine in (self.engine, self.reader):
            event.listen(engine, "checkout", _refuse_cut)
            _forget_in_children(engine)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._reads = sessionmaker(self.reader, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One unit of work: committed at the end of the block, rolled back when it raises.

        What was loaded stays readable after the block. Raises ServiceUnavailable when the server is away or every
        connection is busy, InvalidInput when PostgreSQL refuses a value (too long, out of range, NUL in a text).
        """
        with named_errors(self._name), self._sessions.begin() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that PostgreSQL itself keeps read-only, without a transaction around its statements: each sees
        what is committed when it begins, as it would within one, and BEGIN and COMMIT are not sent. Raises as `session`
        does."""
        with named_errors(self._name), self._reads() as session:
            yield session

    async def run(self, query: Query[Result]) -> Result:
        """The query's answer, on this event loop and without a thread. Raises as `session` does, and as the query."""
        return await self._async_reads.run(query)

    def check_async(self) -> None:
        """Raises InvalidConfig for a URL that `run` can't use as sessions do."""
        self._async_reads.check()

    def ping(self) -> str:
        """The server's version, such as '15.4'. Raises ServiceUnavailable."""
        with self.read() as session:
            return str(session.scalar(text("SHOW server_version"))).split()[0]

    def dispose(self) -> None:
        """Close every idle connection, and those of event loops. The object can be used again."""
        self.engine.dispose()
        self.reader.dispose()
        self._async_reads.dispose()

    async def close(self) -> None:
        """`dispose`, from the event loop that asked."""
        await self._async_reads.close()
        self.dispose()


def parse_url(url: str) -> URL:
    """Raises InvalidConfig, without repeating the URL: it may hold a password."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidConfig(
            "The database URL can't be read.", hint=f"Write it as {DRIVER}://user:password@host:port/database."
        ) from None
    if address.drivername != DRIVER:
        raise InvalidConfig(
            f"The database URL says {address.drivername}://, which is not the driver used here.",
            hint=f"Write it as {DRIVER}://user:password@host:port/database.",
        )
    return address


def connect_arguments(address: URL) -> dict[str, str | int]:
    """libpq parameters that the URL does not set itself. A server that is cut off is noticed within a minute, not
    after the quarter of an hour that TCP waits."""
    defaults = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "videomoments",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,  # milliseconds
    }
    return {key: value for key, value in defaults.items() if key not in address.query}


@contextmanager
def named_errors(server: str) -> Iterator[None]:
    """PostgreSQL's failures as VideoMomentsErrors, where they have a meaning to the user."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, QueryCanceled):
            raise ServiceUnavailable(
                f"PostgreSQL at {server} took too long to answer.", hint="Ask for less, or try again later."
            ) from error
        # no statement: connecting failed; invalidated: the connection broke under the statement
        if error.statement is not None and not error.connection_invalidated:
            raise
        reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "the connection broke"
        raise ServiceUnavailable(f"PostgreSQL at {server} does not answer: {reason}") from error
    except PoolTimeout as error:
        raise ServiceUnavailable(f"Every connection to PostgreSQL at {server} is busy.") from error
    except DataError as error:
        raise InvalidInput(f"PostgreSQL refused a value: {str(error.orig).strip().splitlines()[0]}.") from error
    except ValueError as error:
        if "NUL (0x00)" not in str(error):  # psycopg2's own words; it checks before it sends
            raise
        raise InvalidInput("A text holds a NUL character.", hint="Remove it.") from error


def _forget_in_children(engine: Engine) -> None:
    """A forked process forgets the connections it inherited, without closing them: they are its parent's."""
    reference = weakref.ref(engine)

    def forget() -> None:
        if (inherited := reference()) is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


_SET_UP = (
    "SET TIME ZONE 'UTC'; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10;"
    " SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000"
)
"""Timestamps read as UTC whatever the server's zone, and the server notices within a minute that this host is gone: a
transaction that its death left open would keep its locks for two hours. By SET: poolers refuse it as a start-up option.
"""


def _reader_set_up(seconds: float | None) -> str:
    bound = "" if seconds is None else f"; SET statement_timeout = {round(seconds * 1000)}"
    # compiling takes longer than what is read here
    return f"{_SET_UP}; SET default_transaction_read_only = on; SET jit = off{bound}"


def _set_up(statements: str) -> Callable[[Any, object], None]:
    def set_up(connection: Any, _: object) -> None:
        before = connection.autocommit
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statements)
        connection.autocommit = before

    return set_up


def _refuse_cut(connection: Any, _record: object, _proxy: object) -> None:
    """An idle connection that has something to read was ended by the server: the pool takes another. Asking the server
    instead, as pool_pre_ping does, would double the round trips of most requests."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        raise DisconnectionError


def server_name(address: URL) -> str:
    """Host, port and database, for messages: nothing secret."""
    return f"{address.host or 'localhost'}:{address.port or 5432}/{address.database or ''}"
