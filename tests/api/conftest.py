"""The application on real PostgreSQL, Redis and a directory of objects, with a client that asks like a browser."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import delete, event
from sqlalchemy.orm import Session

from api.app import create_app
from api.http_protocol import BoundedHeads
from api.keys import Keys
from api.services import Services
from db.async_reads import AsyncReads
from db.models import ApiKey, PipelineRequest, PipelineRun, Prompt, Video
from db.query import Query
from db.session import Database
from tests import factories
from videomoments_dagster.redis_connection import connect as connect_redis
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.requests.stream import STREAM
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.postgres import EmbeddedPostgres, connect
from videomoments_dagster.storage import names
from videomoments_dagster.storage.factory import open_store

QueryCounter = Callable[[], AbstractContextManager[list[str]]]


@pytest.fixture(scope="session")
def api_database(postgres: EmbeddedPostgres, database_template: str) -> Iterator[Database]:
    """A migrated database of these tests' own, to commit in."""
    connection = connect(postgres.database_url("postgres"))
    connection.cursor().execute(f"CREATE DATABASE api_tests TEMPLATE {database_template}")
    connection.close()
    database = Database(postgres.database_url("api_tests"))
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def application_settings(api_database: Database, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate(
        {
            "VIDEOMOMENTS_HOME": tmp_path_factory.mktemp("api"),
            "DATABASE_URL": api_database.engine.url.render_as_string(hide_password=False),
            "REDIS_URL": redis_url,
            "VIDEOMOMENTS_PUBLIC_URL": "http://testserver",
            "VIDEOMOMENTS_ALLOW_PRIVATE_URLS": True,
        }
    )


@pytest.fixture(scope="session")
def application(application_settings: Settings) -> Iterator[tuple[FastAPI, TestClient]]:
    """Made once: what differs between tests is in `app.state.services`."""
    app = create_app(application_settings)
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        app.state.keys = Keys(clock=lambda: 0.0)
        client.get("/api")  # from now on it knows that there are no keys, and no test sees the question
        live = app.state.services.live
        yield app, client
        assert client.portal is not None
        client.portal.call(live.close)


class _Server(uvicorn.Server):
    """What its loop has opened is closed on it: the application's own lifespan is of another."""

    def __init__(self, app: FastAPI, live: LiveReads) -> None:
        super().__init__(uvicorn.Config(app, http=BoundedHeads, lifespan="off", log_level="error"))
        self._app, self._live = app, live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._live.close()
        await self._app.state.services.database.close()


@pytest.fixture(scope="session")
def server(application: tuple[FastAPI, TestClient], live_reads: LiveReads) -> Iterator[str]:
    """The application behind a real socket: its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = _Server(application[0], live_reads)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def live_reads(application: tuple[FastAPI, TestClient]) -> LiveReads:
    """One for all tests: its connections are of event loops, and are closed there."""
    return application[0].state.services.live


@pytest.fixture
def settings(application_settings: Settings, home: Path, redis: "Redis") -> Settings:
    """The application's own with another directory: to read the environment again would take a quarter of a test."""
    return application_settings.model_copy(update={"home": home})


@pytest.fixture
def app(
    application: tuple[FastAPI, TestClient], settings: Settings, api_database: Database, live_reads: LiveReads
) -> Iterator[FastAPI]:
    app, _ = application
    redis = connect_redis(settings.redis_url)
    app.state.services = Services(settings, api_database, redis, open_store(settings), live_reads)
    yield app
    redis.close()
    with api_database.session() as session:
        for table in (Video, PipelineRequest, PipelineRun, Prompt, ApiKey):
            session.execute(delete(table))


@pytest.fixture
def client(application: tuple[FastAPI, TestClient], app: FastAPI) -> TestClient:
    return application[1]


@pytest.fixture
def services(app: FastAPI) -> Services:
    return app.state.services


@pytest.fixture
def statements(services: Services) -> QueryCounter:
    """`with statements() as sent:` collects what the application sends to PostgreSQL."""

    @contextmanager
    def collect() -> Iterator[list[str]]:
        sent: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            sent.append(statement)

        async def run(reads: AsyncReads, query: Query[Any]) -> Any:
            sent.append(str(query.statement))
            return await run_query(reads, query)

        engines, run_query = (services.database.engine, services.database.reader), AsyncReads.run
        for engine in engines:
            event.listen(engine, "before_cursor_execute", note)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AsyncReads, "run", run)
            try:
                yield sent
            finally:
                for engine in engines:
                    event.remove(engine, "before_cursor_execute", note)

    return collect


def messages(redis: "Redis") -> list[dict[str, str]]:
    """The fields of every message on the stream."""
    entries: Any = redis.xrange(STREAM)
    return [fields for _, fields in entries]


def store_video(services: Services, session: Session, identifier: str, body: bytes = b"video", **values: Any) -> Video:
    """A video whose object really is in the store."""
    name = names.video(identifier, "mp4")
    services.store.put_bytes(name, body, "video/mp4")
    return factories.video(session, identifier=identifier, cloud_url=services.store.cloud_url(name), **values)


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Every failure has this one shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert {"type", "title", "status", "detail", "code", "hint", "retryable"} <= set(problem)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text
    return problem
