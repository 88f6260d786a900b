"""A PostgreSQL, a Redis and a home of the benchmark's own, as environment variables of this process."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.migrate import upgrade
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.postgres import EmbeddedPostgres
from videomoments_dagster.stack.redis import EmbeddedRedis

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample" / "talk.mp4"


@contextmanager
def services() -> Iterator[Path]:
    """Yields the home. Durable writes are on, as in production."""
    with tempfile.TemporaryDirectory(prefix="videomoments-bench-") as name:
        home = Path(name)
        postgres, redis = EmbeddedPostgres(home / "postgres"), EmbeddedRedis(home / "redis")
        (home / "dagster").mkdir()
        (home / "dagster" / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
        try:
            postgres.start()
            os.environ |= {
                "VIDEOMOMENTS_HOME": str(home),
                "DATABASE_URL": postgres.url,
                "DAGSTER_DATABASE_URL": postgres.database_url("videomoments_dagster"),
                "REDIS_URL": redis.start(),
                "DAGSTER_HOME": str(home / "dagster"),
                "VIDEOMOMENTS_MAX_CONCURRENT_RUNS": "2",
                "VIDEOMOMENTS_ALLOW_PRIVATE_URLS": "1",
            }
            get_settings.cache_clear()
            upgrade(postgres.url)
            yield home
        finally:
            redis.stop()
            postgres.stop()
