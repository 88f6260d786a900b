"""Thin resources: each hands out one object of the layers below, made once a process. No logic of its own."""

from functools import cache, partial
from pathlib import Path

import dagster as dg
import redis

from db.session import Database
from videomoments_dagster.defs.observing import counting
from videomoments_dagster.models.catalog import Models
from videomoments_dagster.models.registry import ModelRegistry
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.factory import open_store, publish
from videomoments_dagster.temp_files import TempFiles


@cache
def _database(url: str) -> Database:
    return Database(url)


@cache
def _redis(url: str) -> "redis.Redis":
    return connect(url)


@cache
def _store(*_where: str | Path | None) -> ObjectStore:
    """One store for each place the settings have named in this process."""
    settings = get_settings()
    if settings.gcs_bucket_name:
        from dagster_gcp import GCSResource  # 2.9 s of imports: only where a bucket is configured

        from videomoments_dagster.storage.gcs import GoogleCloudStore

        if not settings.gcs_credentials_path:
            return GoogleCloudStore.from_client(settings, GCSResource(project=None).get_client())
    return open_store(settings)


@cache
def _models(redis_url: str, store: ObjectStore) -> Models:
    settings = get_settings()
    client = _redis(redis_url)
    registry = ModelRegistry(client, settings)
    return Models(registry, settings, publish=partial(publish, store), observe=counting(client))


class PlatformResource(dg.ConfigurableResource):
    """The services behind the assets, as the settings name them."""

    @property
    def settings(self) -> Settings:
        return get_settings()

    @property
    def database(self) -> Database:
        return _database(self.settings.database_url)

    @property
    def dagster_database(self) -> Database:
        """Dagster's own tables, for what Dagster itself does not do with them."""
        return _database(self.settings.dagster_database_url)

    @property
    def redis(self) -> "redis.Redis":
        return _redis(self.settings.redis_url)

    @property
    def models(self) -> Models:
        """The registry's models. Made once a process: their servers' connections are kept."""
        return _models(self.settings.redis_url, self.store)

    @property
    def store(self) -> ObjectStore:
        settings = self.settings
        return _store(settings.home, settings.gcs_bucket_name, settings.public_url)

    @property
    def temp(self) -> TempFiles:
        return TempFiles.of(self.settings)
