"""The live status, read on an event loop: who asks while an answer is on its way shares the next round trip with all
others who do. Reading one hash costs Redis next to nothing, and this process a seventh of a millisecond."""

import asyncio
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis

from videomoments_dagster.redis_connection import connect_async, reaching
from videomoments_dagster.requests.status import PipelineStatus, of_fields, status_key

_MOST_AT_ONCE = 200
_Fields = dict[str, str]


class LiveReads:
    """`LiveStatus.read` for any number of event loops. Nothing is connected before the first question."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batches] = WeakKeyDictionary()

    async def read(self, video: str) -> PipelineStatus | None:
        """None when nothing is known, e.g. a day after the run ended. Raises ServiceUnavailable."""
        loop = asyncio.get_running_loop()
        batches = self._loops.get(loop)
        if batches is None:
            batches = self._loops[loop] = _Batches(connect_async(self._url))
        with reaching(batches.redis):
            fields = await batches.fields(video)
        return of_fields(video, fields)

    async def close(self) -> None:
        """Close the connection of this event loop."""
        if batches := self._loops.pop(asyncio.get_running_loop(), None):
            await batches.close()


class _Batches:
    def __init__(self, client: "Redis") -> None:
        self.redis = client
        self._waiting: list[tuple[str, asyncio.Future[_Fields]]] = []
        self._task: asyncio.Task[None] | None = None

    async def fields(self, video: str) -> _Fields:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Fields] = loop.create_future()
        self._waiting.append((video, answer))
        if self._task is None:
            self._task = loop.create_task(self._ask())
        return await answer

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.redis.aclose()

    async def _ask(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
                try:
                    found = await self._read([video for video, _ in batch])
                except Exception as error:
                    found = [error] * len(batch)
                for (_, answer), fields in zip(batch, found, strict=True):
                    if answer.done():  # who asked has gone
                        continue
                    if isinstance(fields, Exception):
                        answer.set_exception(fields)
                    else:
                        answer.set_result(fields)
        finally:
            self._task = None

    async def _read(self, videos: list[str]) -> list[_Fields | Exception]:
        """A key that Redis refuses is an error of its own, not of those asked for with it."""
        client: Any = self.redis
        if len(videos) == 1:
            return [await client.hgetall(status_key(videos[0]))]
        async with client.pipeline(transaction=False) as batch:
            for video in videos:
                batch.hgetall(status_key(video))
            return await batch.execute(raise_on_error=False)
