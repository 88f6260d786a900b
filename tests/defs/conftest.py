"""The graph's services: a database, a Redis, a directory store and an instance of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import redis as redis_client
from alembic.config import Config
from alembic.script import ScriptDirectory

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


@pytest.fixture(scope="session", autouse=True)
def revisions() -> Iterator[None]:
    """Dagster's revisions are read once: every instance in memory reads them twice, two thirds of its making."""
    read, known = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def remembered(config: Config) -> ScriptDirectory:
        location = config.get_main_option("script_location")
        return known.get(location) or known.setdefault(location, read(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", remembered)
        yield


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
