"""The application on real PostgreSQL, Redis and a directory of objects, with a client that asks like a browser."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import event
from sqlalchemy.orm import Session

from api.app import create_app
from api.services import Services
from db.models import Video
from tests import factories
from videomoments_dagster.settings import Settings
from videomoments_dagster.storage import names

QueryCounter = Callable[[], AbstractContextManager[list[str]]]


@pytest.fixture
def settings(home: Path, fresh_database_url: str, redis_url: str, redis: "Redis") -> Settings:
    return Settings.model_validate(
        {
            "home": home,
            "configured_database_url": fresh_database_url,
            "configured_redis_url": redis_url,
            "configured_public_url": "http://testserver",
            "allow_private_urls": True,
        }
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@pytest.fixture
def services(app: FastAPI) -> Services:
    return app.state.services


@pytest.fixture
def rows(services: Services) -> Callable[[], AbstractContextManager[Session]]:
    return services.database.session


@pytest.fixture
def statements(services: Services) -> QueryCounter:
    """`with statements() as sent:` collects what the application sends to PostgreSQL."""

    @contextmanager
    def collect() -> Iterator[list[str]]:
        sent: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            sent.append(statement)

        event.listen(services.database.engine, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(services.database.engine, "before_cursor_execute", note)

    return collect


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
