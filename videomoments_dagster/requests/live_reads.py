"""The live status, read on an event loop: who asks while an answer is on its way shares the next round trip with all
others who do. Reading one hash costs Redis next to nothing, and this process a seventh of a millisecond."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from videomoments_dagster.redis_connection import connect_async, reaching
from videomoments_dagster.requests.status import PipelineStatus, of_fields, status_key

_MOST_AT_ONCE = 200
_SECONDS = 2.0
"""Redis answers in a millisecond, or rows are asked: nobody should wait long for the difference."""
_Fields = dict[str, str]


class LiveReads:
    """`LiveStatus.read` for any number of event loops. Nothing is connected before the first question."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._loops: dict[asyncio.AbstractEventLoop, _Batches] = {}

    async def read(self, video: str) -> PipelineStatus | None:
        """None when nothing is known, e.g. a day after the run ended. Raises ServiceUnavailable."""
        loop = asyncio.get_running_loop()
        batches = self._loops.get(loop)
        if batches is None:
            for each in [each for each in self._loops if each.is_closed()]:  # what they hold holds them
                del self._loops[each]
            batches = self._loops[loop] = _Batches(connect_async(self._url, timeout_seconds=_SECONDS))
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
            self._refuse(_stops())  # one that had not begun tells nobody
        await self.redis.aclose()

    async def _ask(self) -> None:
        """Until nobody waits. Who waits when Redis fails is told so at once: asking again would take as long."""
        batch: list[tuple[str, asyncio.Future[_Fields]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
                found = await self._read([video for video, _ in batch])
                for (_, answer), fields in zip(batch, found, strict=True):
                    _tell(answer, fields)
        except BaseException as error:
            self._waiting += batch
            self._refuse(error if isinstance(error, Exception) else _stops())
            if not isinstance(error, Exception):
                raise
        finally:
            self._task = None

    def _refuse(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for _, answer in waiting:
            _tell(answer, error)

    async def _read(self, videos: list[str]) -> list[_Fields | Exception]:
        """A key that Redis refuses is an error of its own, not of those asked for with it."""
        client: Any = self.redis
        if len(videos) == 1:
            return [await client.hgetall(status_key(videos[0]))]
        async with client.pipeline(transaction=False) as batch:
            for video in videos:
                batch.hgetall(status_key(video))
            return await batch.execute(raise_on_error=False)


def _stops() -> ConnectionError:
    return ConnectionError("The API stops.")


def _tell(answer: asyncio.Future[_Fields], said: _Fields | Exception) -> None:
    if answer.done():  # told already, or who asked has gone
        return
    if isinstance(said, Exception):
        answer.set_exception(said)
    else:
        answer.set_result(said)
