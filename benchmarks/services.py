"""A PostgreSQL, a Redis and a home of the benchmark's own, as environment variables of this process."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from db.migrate import upgrade
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.child import Child
from videomoments_dagster.stack.home import Home
from videomoments_dagster.stack.postgres import DAGSTER_DATABASE, EmbeddedPostgres
from videomoments_dagster.stack.redis import EmbeddedRedis

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample" / "talk.mp4"
_START_SECONDS, _BEAT_SECONDS = 60.0, 0.05


@dataclass(frozen=True, slots=True)
class Services:
    """The servers that run, and their home."""

    home: Home
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis


@contextmanager
def services() -> Iterator[Services]:
    """Durable writes are on, as in production."""
    with tempfile.TemporaryDirectory(prefix="videomoments-bench-") as name:
        home = Home(Path(name) / "home")
        postgres, redis = EmbeddedPostgres(Path(name) / "postgres"), EmbeddedRedis(Path(name) / "redis")
        home.make()
        try:
            postgres.start()
            os.environ |= {
                "VIDEOMOMENTS_HOME": str(home.path),
                "DATABASE_URL": postgres.url,
                "DAGSTER_DATABASE_URL": postgres.database_url(DAGSTER_DATABASE),
                "REDIS_URL": redis.start(),
                "DAGSTER_HOME": str(home.dagster),
                "VIDEOMOMENTS_MAX_CONCURRENT_RUNS": "2",
                "VIDEOMOMENTS_ALLOW_PRIVATE_URLS": "1",
            }
            get_settings.cache_clear()
            upgrade(postgres.url)
            yield Services(home, postgres, redis)
        finally:
            redis.stop()
            postgres.stop()


def start(child: Child) -> None:
    """Begin it and wait until it answers; a step, until it has ended well."""
    child.begin()
    deadline = time.monotonic() + _START_SECONDS
    while not child.answers():
        failed = child.process is not None and child.process.poll() not in {None, 0}
        assert not failed and time.monotonic() < deadline, child.log.read_text()[-2000:]
        time.sleep(_BEAT_SECONDS)
