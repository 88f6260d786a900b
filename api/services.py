"""What the routes stand on: settings, rows, Redis and objects, opened once a process and closed at its end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import anyio.to_thread
import redis
from fastapi import Depends, Request

from api.schemas.base import SignedUrl
from api.signed_urls import SignedUrls
from db.session import Database
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.requests.stream import RequestStream
from videomoments_dagster.settings import Settings
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.factory import open_store

_View = TypeVar("_View")
_Shown = TypeVar("_Shown")
_MOST_AT_ONCE = 300  # moments: some 5 ms
READ_SECONDS = 10.0
"""A statement that takes longer is worth less than the connection that it holds."""


@dataclass(frozen=True, slots=True)
class Services:
    """Shared by all requests of this process. Sessions are opened inside the endpoint that needs one."""

    settings: Settings
    database: Database
    redis: "redis.Redis"
    store: ObjectStore
    live: LiveReads
    urls: SignedUrls = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "urls", SignedUrls(self.store, self.settings.signed_url_seconds))

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Raises ServiceUnavailable when neither a database nor a running platform is configured, InvalidConfig for a
        database URL that can't be used."""
        database = Database(settings.database_url, pool_size=8, read_seconds=READ_SECONDS)
        database.check_async()
        live = LiveReads(settings.redis_url)
        return cls(settings, database, connect(settings.redis_url), open_store(settings), live)

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
        return self.urls.of(cloud_url)

    def sign_fresh(self, cloud_url: str) -> SignedUrl:
        """A new URL, and exactly how long it is good for. Raises as `sign` does."""
        name, life_seconds = self.store.name_of(cloud_url), self.settings.signed_url_seconds
        url = self.store.signed_url(name, expires_in_seconds=life_seconds)
        return SignedUrl(url=url, expires_in_seconds=life_seconds)

    async def shown(self, show: Callable[[_View, "Services"], _Shown], view: _View, *, items: int = 1) -> _Shown:
        """`show(view, self)`, which signs URLs: in a thread where that asks somebody, or takes long."""
        if self.store.signs_at_once and items <= _MOST_AT_ONCE:
            return show(view, self)
        return await anyio.to_thread.run_sync(show, view, self)

    async def close(self) -> None:
        """To be called on the event loop that asked."""
        await self.live.close()
        await self.database.close()
        self.redis.close()


async def _services(request: Request) -> Services:  # async, or FastAPI would ask a thread for it
    return request.app.state.services


Here = Annotated[Services, Depends(_services)]
