"""Changes of videos' statuses, to everyone who follows one over HTTP. A process listens to Redis on one connection,
looks at a video once a change however many follow it, and holds no connection to PostgreSQL while nothing changes.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

import anyio.to_thread
import redis
from anyio import CapacityLimiter

from api.activity import status_of
from api.schemas.pipeline import status as shown
from api.services import Services
from videomoments_dagster.errors import NotFound, RateLimited, ServiceUnavailable
from videomoments_dagster.redis_connection import connect_async
from videomoments_dagster.requests.events import CHANNEL, is_later
from videomoments_dagster.requests.status import PipelineStatus

MOST_LISTENERS = 5_000
"""Of one process: each has a socket, and about 40 kB."""
MOST_OF_ONE = 100
"""Of one key, or without keys of one address: else a single one could keep out all others."""
_MOST_WAITING = 32
_SWEEP_SECONDS = 15.0  # places in the queue move on without an event
_LOOK_AGAIN_SECONDS = 60.0  # a wake-up that was lost with its connection
_FRESH_SECONDS = 1.0  # many begin to follow at once
_RECONNECT_SECONDS = 1.0
_OVER = {"completed", "failed", "partial", "cancelled"}
_T = TypeVar("_T")
_log = logging.getLogger("videomoments.api")


@dataclass(frozen=True, slots=True)
class Change:
    """A status as a server-sent event. `is_over`: nothing of the video waits or runs."""

    identifier: str | None
    data: str
    is_over: bool

    @classmethod
    def of(cls, identifier: str | None, status: PipelineStatus) -> "Change":
        return cls(identifier, shown(status).model_dump_json(), status.status in _OVER)

    @property
    def chunk(self) -> bytes:
        name = f"id: {self.identifier}\n" if self.identifier else ""
        return f"event: status\n{name}data: {self.data}\n\n".encode()


class Listener:
    """One who follows a video. Of more than 32 changes that it did not take in time, it gets the newest only."""

    def __init__(self, drop: "Callable[[Listener], None]", first: Iterable[Change]) -> None:
        self._drop, self._waiting, self._news, self._ended = drop, deque(first), asyncio.Event(), False

    def put(self, change: Change) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.clear()
        self._waiting.append(change)
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def close(self) -> None:
        """It is not told any more."""
        self._drop(self)

    @property
    def first(self) -> Change:
        return self._waiting[0]

    @property
    def is_up_to_date(self) -> bool:
        """Whether it has taken all that it was told."""
        return not self._waiting

    async def next(self, timeout_seconds: float) -> Change | None:
        """The next change, or None when there was none in time. Raises StopAsyncIteration after the last one: the video
        was deleted, or the API stops."""
        if not self._waiting and not self._ended:
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout_seconds)
        if self._waiting:
            return self._waiting.popleft()
        if self._ended:
            raise StopAsyncIteration
        return None


@dataclass(slots=True, eq=False)
class _Topic:
    """A video that is followed. What is told to its listeners, and who they are, changes under its lock only."""

    video: str
    listeners: set[Listener] = field(default_factory=set)
    opening: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: Change | None = None
    last_id: str | None = None
    is_queued: bool = False
    is_woken: bool = False
    looked_at: float = 0.0

    def tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener.put(change)


class StatusHub:
    """Who follows which video in this process. For one event loop; nothing is connected before the first listener."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._topics: dict[str, _Topic] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: Counter[str] = Counter()
        self._connecting = self._closed = False
        self._threads = CapacityLimiter(4)  # of the database's connections, and of the machine

    @property
    def listeners(self) -> int:
        return sum(len(topic.listeners) + topic.opening for topic in self._topics.values())

    async def open(self, video: str, after: str | None = None, *, who: str) -> Listener:
        """Follow `video`: first the changes after the event `after`, as far as they are kept, then how it is now, then
        what changes. Raises NotFound when it never had a request or run, RateLimited when `who` has too many listeners,
        and ServiceUnavailable."""
        if self._closed or self.listeners >= MOST_LISTENERS:
            why = "is shutting down" if self._closed else f"has {MOST_LISTENERS} listeners already"
            raise ServiceUnavailable(f"This process of the API {why}.", hint="Try again in a few seconds.")
        if self._held[who] >= MOST_OF_ONE:
            hint = "Close others, or ask with another API key."
            message = f"{MOST_OF_ONE} streams are open here with this API key, or from this address."
            raise RateLimited(message, retry_after_seconds=5, hint=hint)
        self._held[who] += 1
        try:
            return await self._open(video, after, who)
        except BaseException:
            self._let_go(who)
            raise

    async def _open(self, video: str, after: str | None, who: str) -> Listener:
        if not self._connecting:
            self._connecting = True
            self._start(self._listen())
            self._start(self._sweep())
        topic = self._topics.setdefault(video, _Topic(video))
        topic.opening += 1
        try:
            async with topic.lock:
                is_stale = topic.newest is None or time.monotonic() - topic.looked_at > _FRESH_SECONDS
                if is_stale or is_later(after, topic.last_id):  # another process has told it more
                    await self._look(topic)
                assert topic.newest is not None  # noqa: S101  # or _look has raised
                missed = await self._missed(topic, after) if after else []
                listener = Listener(lambda gone: self._drop(topic, gone, who), [*missed, topic.newest])
                topic.listeners.add(listener)
        finally:
            topic.opening -= 1
            self._tidy(topic)
        return listener

    def close(self) -> None:
        """End all streams, for good."""
        self._closed = True
        for topic in self._topics.values():
            for listener in topic.listeners:
                listener.end()
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """`close`, and wait until Redis is let go."""
        self.close()
        loop = asyncio.get_running_loop()  # tests ask one application by several
        await asyncio.gather(*(task for task in self._tasks if task.get_loop() is loop), return_exceptions=True)

    def _drop(self, topic: _Topic, listener: Listener, who: str) -> None:
        if listener in topic.listeners:
            topic.listeners.discard(listener)
            self._let_go(who)
        self._tidy(topic)

    def _let_go(self, who: str) -> None:
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]

    def _tidy(self, topic: _Topic) -> None:
        if not topic.listeners and not topic.opening and self._topics.get(topic.video) is topic:
            del self._topics[topic.video]

    async def _look(self, topic: _Topic) -> None:
        """Tell the topic's listeners what has changed since the last look. Raises NotFound, and ServiceUnavailable when
        less can be seen than was."""
        changes, now = await self._in_thread(lambda: self._seen(topic))
        topic.looked_at, topic.is_queued = time.monotonic(), now.status == "queued"
        if changes and changes[-1][1] == replace(now, queue_position=None):
            identifier, _ = changes.pop()
        else:
            identifier = changes[-1][0] if changes else topic.last_id
        if topic.newest:
            for name, status in changes:
                topic.tell(Change.of(name, status))
        known, topic.last_id = topic.newest, identifier
        topic.newest = Change.of(identifier or _name_of_end(now), now)
        if known is None or known.data != topic.newest.data:
            topic.tell(topic.newest)

    def _seen(self, topic: _Topic) -> tuple[list[tuple[str, PipelineStatus]], PipelineStatus]:
        """Rows know less than Redis: they are told to those who begin while it is away, not to those who know more."""
        changes: list[tuple[str, PipelineStatus]] = []
        with suppress(*(() if topic.newest else (ServiceUnavailable,))):
            changes = self._services.status.changes(topic.video, topic.last_id)
        return changes, status_of(self._services, topic.video)

    async def _missed(self, topic: _Topic, after: str) -> list[Change]:
        """Those after the event `after`, and before the one that the topic has told last."""
        try:
            changes = await self._in_thread(lambda: self._services.status.changes(topic.video, after))
        except ServiceUnavailable:
            return []
        names = [name for name, _ in changes]
        until = names.index(topic.last_id) if topic.last_id in names else 0
        return [Change.of(name, status) for name, status in changes[:until]]

    async def _in_thread(self, look: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(look, limiter=self._threads)

    def _wake(self, topic: _Topic) -> None:
        if not topic.is_woken:  # else somebody will look, later than this change
            topic.is_woken = True
            self._start(self._look_again(topic))

    async def _look_again(self, topic: _Topic) -> None:
        async with topic.lock:
            topic.is_woken = False
            try:
                await self._look(topic)
            except NotFound:
                for listener in topic.listeners:
                    listener.end()
            except ServiceUnavailable as error:
                _log.debug("Nothing is seen of %s: %s", topic.video, error.message)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            before = time.monotonic() - _LOOK_AGAIN_SECONDS
            for topic in list(self._topics.values()):
                if topic.is_queued or topic.looked_at < before:
                    self._wake(topic)

    async def _listen(self) -> None:
        """Wake topics as Redis says; while it is away, try again for ever."""
        client = connect_async(self._services.settings.redis_url, timeout_seconds=None)
        is_away = False
        async with client:
            while True:
                try:
                    async with client.pubsub() as channel:
                        await channel.subscribe(CHANNEL)
                        for topic in list(self._topics.values()):  # what changed while nobody listened
                            self._wake(topic)
                        is_away = False
                        while True:
                            message = await channel.get_message(ignore_subscribe_messages=True, timeout=_SWEEP_SECONDS)
                            if message and (topic := self._topics.get(message["data"])):
                                self._wake(topic)
                except (redis.RedisError, OSError) as error:
                    if not is_away:
                        _log.warning("Redis does not answer (%s): statuses are not told.", type(error).__name__)
                    is_away = True
                await asyncio.sleep(_RECONNECT_SECONDS)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _name_of_end(status: PipelineStatus) -> str | None:
    """Of a status that is over, and whose events are not kept any more: always the same, so that who has seen it is
    known when it comes again."""
    at = status.completed_at or status.started_at or status.queued_at
    if status.status not in _OVER or at is None:
        return None
    return f"{int(datetime.fromisoformat(at).timestamp() * 1000)}-0"
