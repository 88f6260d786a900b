"""Questions to running services, in their own protocol. Every answer is a yes or a no within a second."""

import contextlib
import http.client
import socket
from datetime import UTC, datetime
from importlib.metadata import version

import psycopg2
from psycopg2 import sql

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import connect as connect_redis
from videomoments_dagster.requests.workers import WorkerRegistry
from videomoments_dagster.stack.postgres import connect

_TIMEOUT_SECONDS = 1.0
_DAEMONS = ["SENSOR", "QUEUED_RUN_COORDINATOR"]
_TABLES = [
    "runs",
    "event_logs",
    "instigators",
    "daemon_heartbeats",
    "concurrency_limits",
]  # the last made of each storage


def http_answers(port: int, path: str, host: str = "127.0.0.1") -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def accepts(port: int) -> bool:
    """Whether connections are accepted: a code server listens only once it has loaded the definitions."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def worker_announced(redis_url: str, pid: int) -> bool:
    """Whether the worker of process `pid` takes runs."""
    with contextlib.closing(connect_redis(redis_url)) as client:
        try:
            living = WorkerRegistry(client).living()
        except ServiceUnavailable:
            return False
    return any((worker.host, worker.pid) == (socket.gethostname(), pid) for worker in living)


def daemon_beats(database_url: str, since: datetime) -> bool:
    """Whether the loops of the Dagster daemon that launch runs have all written a heartbeat after `since`."""
    try:
        with contextlib.closing(connect(database_url)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM daemon_heartbeats WHERE daemon_type = ANY(%s) AND timestamp > %s",
                (_DAEMONS, since.astimezone(UTC).replace(tzinfo=None)),
            )
            return cursor.fetchone() == (len(_DAEMONS),)
    except psycopg2.Error:
        return False


def ping_database(database_url: str) -> None:
    """Raises psycopg2.OperationalError when PostgreSQL does not answer."""
    connect(database_url).close()


def dagster_tables(database_url: str) -> bool:
    """Whether Dagster's tables are all there."""
    with contextlib.closing(connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tablename = ANY(%s)", (_TABLES,))
        return cursor.fetchone() == (len(_TABLES),)


def dagster_schema_is_current(database_url: str) -> bool:
    """Whether this version of Dagster has already migrated the database: noted as a comment on the database itself."""
    with contextlib.closing(connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        )
        return cursor.fetchone() == (_schema_note(),)


def note_dagster_schema(database_url: str) -> None:
    """Note that the database is migrated. One that may not comment on its database migrates at each start."""
    with contextlib.closing(connect(database_url)) as connection, connection.cursor() as cursor:
        name = connection.info.dbname
        with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
            statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
            cursor.execute(statement.format(sql.Identifier(name), sql.Literal(_schema_note())))


def now() -> datetime:
    return datetime.now(UTC)


def _schema_note() -> str:
    return f"dagster {version('dagster')}"
