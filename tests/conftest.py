"""Real servers for the whole suite: one PostgreSQL and one Redis a session, from the wheels, gone when it ends.

`database_url` is shared: use it with a transaction that is rolled back. A test that commits takes
`fresh_database_url`, its own copy of the migrated database.
"""

import gc
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import redis as redis_client
from psycopg2 import sql

from videomoments_dagster.redis_connection import connect as connect_redis
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.stack.postgres import EmbeddedPostgres, connect
from videomoments_dagster.stack.redis import EmbeddedRedis

_TEMPLATE = "template_videomoments"
_numbers = count(1)


_LONGEST = ("tests/hosts/", "tests/workers/", "tests/test_end_to_end.py", "tests/stack/", "tests/test_deploy.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process is left alone with one of them in the end. Those that
    mostly wait go beside the three hosts, which need the cores."""
    items.sort(
        key=lambda item: next((n for n, name in enumerate(_LONGEST) if item.nodeid.startswith(name)), len(_LONGEST))
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What collecting imports is looked through by the garbage collector neither meanwhile nor ever again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), fast=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres: EmbeddedPostgres) -> str:
    """A server with an empty database: SQLAlchemy URL."""
    return postgres.url


@pytest.fixture(scope="session")
def database_template(postgres: EmbeddedPostgres) -> str:
    """The name of a database built by the migrations, which nobody may connect to."""
    from db.migrate import upgrade

    _execute(postgres, "CREATE DATABASE {}", _TEMPLATE)
    upgrade(postgres.database_url(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture(scope="session")
def database_url(postgres: EmbeddedPostgres, database_template: str) -> str:
    """A migrated database for tests that roll back: SQLAlchemy URL."""
    return _clone(postgres, database_template)


@pytest.fixture
def fresh_database_url(postgres: EmbeddedPostgres, database_template: str) -> Iterator[str]:
    """A migrated database of the test's own: SQLAlchemy URL."""
    url = _clone(postgres, database_template)
    yield url
    _execute(postgres, "DROP DATABASE {} WITH (FORCE)", url.rpartition("/")[2])


@pytest.fixture(scope="session")
def clone_database(postgres: EmbeddedPostgres, database_template: str) -> Callable[[], str]:
    """Makes a migrated database for fixtures that outlive a test; it goes with the server."""
    return lambda: _clone(postgres, database_template)


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without tables, for Dagster's own: SQLAlchemy URL."""
    url = _clone(postgres, "template1")
    yield url
    _execute(postgres, "DROP DATABASE {} WITH (FORCE)", url.rpartition("/")[2])


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    yield server.start()
    server.stop()


@pytest.fixture
def redis(redis_url: str) -> Iterator["redis_client.Redis"]:
    """A client of an empty Redis that decodes to str."""
    with connect_redis(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty data directory that the settings point to; nothing else is configured."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.alias), raising=False)
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("VIDEOMOMENTS_HOME", str(directory))
    get_settings.cache_clear()
    yield directory
    get_settings.cache_clear()


def _clone(postgres: EmbeddedPostgres, template: str) -> str:
    name = f"clone_{os.getpid()}_{next(_numbers)}"
    # copying files costs less than half of writing every page to the log, where no checkpoint waits for a disk
    _execute(postgres, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
    return postgres.database_url(name)


def _execute(postgres: EmbeddedPostgres, statement: str, *names: str) -> None:
    connection = connect(postgres.database_url("postgres"))
    try:
        connection.cursor().execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
    finally:
        connection.close()
