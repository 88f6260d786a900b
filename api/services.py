"""What the routes stand on: settings, rows, Redis and objects, opened once a process and closed at its end."""

from dataclasses import dataclass
from typing import Annotated

import redis
from fastapi import Depends, Request

from api.schemas.base import SignedUrl
from db.session import Database
from videomoments_dagster.errors import StorageError
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.requests.stream import RequestStream
from videomoments_dagster.settings import Settings
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.factory import open_store

READ_SECONDS = 10.0
"""A statement that takes longer is worth less than the connection that it holds."""


@dataclass(frozen=True, slots=True)
class Services:
    """Shared by all requests of this process. Sessions are opened inside the endpoint that needs one."""

    settings: Settings
    database: Database
    redis: "redis.Redis"
    store: ObjectStore

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Raises ServiceUnavailable when neither a database nor a running platform is configured."""
        database = Database(settings.database_url, pool_size=10, read_seconds=READ_SECONDS)
        return cls(settings, database, connect(settings.redis_url), open_store(settings))

    @property
    def lock(self) -> PipelineLock:
        return PipelineLock(self.redis)

    @property
    def status(self) -> LiveStatus:
        return LiveStatus(self.redis)

    @property
    def stream(self) -> RequestStream:
        return RequestStream(self.redis)

    def sign(self, cloud_url: str) -> str:
        """A URL anyone can open for a while, the same one for half of that. Raises StorageError for an object of
        another store."""
        return self.store.signed_url(self.store.name_of(cloud_url))

    def sign_fresh(self, cloud_url: str) -> SignedUrl:
        """A new URL, and exactly how long it is good for. Raises as `sign` does."""
        name, life_seconds = self.store.name_of(cloud_url), self.settings.signed_url_seconds
        url = self.store.signed_url(name, expires_in_seconds=life_seconds)
        return SignedUrl(url=url, expires_in_seconds=life_seconds)

    def sign_if_ours(self, cloud_url: str | None) -> str | None:
        """For lists: one row that belongs to another store must not hide the others."""
        if cloud_url is None:
            return None
        try:
            name = self.store.name_of(cloud_url)
        except StorageError:
            return None
        return self.store.signed_url(name)

    def close(self) -> None:
        self.database.dispose()
        self.redis.close()


async def _services(request: Request) -> Services:  # async, or FastAPI would ask a thread for it
    return request.app.state.services


Here = Annotated[Services, Depends(_services)]
