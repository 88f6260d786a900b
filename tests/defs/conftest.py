"""The graph's services: a database, a Redis, a directory store and an instance of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import redis as redis_client

from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.settings import get_settings


@pytest.fixture
def platform(
    home: Path,
    fresh_database_url: str,
    redis: "redis_client.Redis",
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[PlatformResource]:
    """The platform that the environment names, on services of the test's own."""
    monkeypatch.setenv("DATABASE_URL", fresh_database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("VIDEOMOMENTS_ALLOW_PRIVATE_URLS", "1")
    get_settings.cache_clear()
    platform = PlatformResource()
    yield platform
    platform.database.dispose()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
