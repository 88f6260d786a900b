"""Following a video by server-sent events: over real sockets, for the test client reads an answer whole."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

import api.routes.events as route
from api.__main__ import Server, raise_file_limit
from api.app import create_app
from api.events import MOST_OF_ONE, Change, Listener
from tests.api.conftest import assert_problem
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.events import MOST_KEPT, key
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.redis import EmbeddedRedis

FOLLOWERS = MOST_OF_ONE
PATH = "/api/pipeline/talk/events"


class Running:
    """The API in this test's own loop, a client of it, and what runs report to Redis."""

    def __init__(self, app: FastAPI, server: Server, client: httpx.AsyncClient, live: LiveStatus) -> None:
        self.app, self.server, self.client, self.live = app, server, client, live

    async def present(self) -> dict[str, Any]:
        return (await self.client.get("/api/pipeline/talk/status")).json()


class Stream:
    """Events of one open answer."""

    def __init__(self, response: httpx.Response) -> None:
        self.response, self._lines = response, response.aiter_lines()

    async def next(self) -> dict[str, str]:
        """The next block of lines as fields; a comment's name is empty. Empty at the end of the stream."""
        block: dict[str, str] = {}
        async with asyncio.timeout(10):
            async for line in self._lines:
                if not line:
                    return block
                name, _, value = line.partition(":")
                block[name] = value.strip()
        return {}

    async def status(self) -> dict[str, Any]:
        """The next event's data."""
        while "data" not in (block := await self.next()):
            assert block, "the stream has ended"
        return json.loads(block["data"])


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    app = create_app(settings)
    server = Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=60), app.state.events)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    limits = httpx.Limits(max_connections=None)
    redis = connect(settings.redis_url)
    try:
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=10, trust_env=False) as client:
            yield Running(app, server, client, LiveStatus(redis))
    finally:
        server.should_exit = True
        await serving
        redis.close()


@asynccontextmanager
async def following(api: Running, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    async with api.client.stream("GET", PATH + query, headers=headers) as response:
        stream = Stream(response)
        assert await stream.next() == {"retry": "2000"}
        yield stream


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_every_change_is_an_event_and_what_was_missed_comes_first(settings: Settings) -> None:
    async def story() -> None:
        async with running(settings) as api:
            api.live.begin("talk", request_id="a request", pipeline_type="full", stages=Stage, run_id="a run")
            async with following(api) as stream:
                assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
                assert stream.response.headers["cache-control"] == "no-store"
                assert stream.response.headers["x-accel-buffering"] == "no"
                first = await stream.next()
                assert (first["event"], json.loads(first["data"])) == ("status", await api.present())
                api.live.stage_started("talk", Stage.VIDEO_DOWNLOAD)
                begun = await stream.next()
                api.live.stage_progress("talk", Stage.VIDEO_DOWNLOAD, 0.5)
                half = await stream.next()
                assert json.loads(half["data"]) == await api.present()
                assert json.loads(half["data"])["stages"][0]["progress"] == 0.5
                assert first["id"] < begun["id"] == half["id"]
                assert api.app.state.services.database.engine.pool.checkedout() == 0
                assert api.app.state.services.database.reader.pool.checkedout() == 0
            await until(lambda: api.app.state.events.listeners == 0)
            api.live.stage_completed("talk", Stage.VIDEO_DOWNLOAD)
            api.live.stage_started("talk", Stage.AUDIO_EXTRACTION)
            api.live.finish("talk", "failed", {"stage": None, "code": "lost", "message": "It was lost.", "hint": "",
                                               "retryable": True})  # fmt: skip
            async with following(api, **{"Last-Event-ID": first["id"]}) as stream:
                told = [await stream.status() for _ in range(4)]
            assert [each["stages"][0]["status"] for each in told] == ["running", "completed", "completed", "completed"]
            assert [each["status"] for each in told] == ["running", "running", "running", "failed"]
            assert told[-1] == await api.present()
            for unknown in ("1-1", "99999999999999-0", "nonsense"):
                async with following(api, **{"Last-Event-ID": unknown}) as stream:
                    assert await stream.status() == told[-1]
                    api.live.note("talk", f"After {unknown}.")
                    told[-1] = await stream.status()
                    assert told[-1]["reason"] == f"After {unknown}."

    asyncio.run(story())


def test_a_stream_until_the_end_ends_and_tells_a_browser_not_to_come_again(settings: Settings) -> None:
    until_end = {"until": "end"}

    async def story() -> None:
        async with running(settings) as api:
            api.live.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
            async with following(api, "?until=end") as stream, following(api) as other:
                first = await stream.next()
                assert json.loads(first["data"])["status"] == (await other.status())["status"] == "queued"
                api.live.finish("talk", "completed")
                last = await stream.next()
                assert json.loads(last["data"])["status"] == "completed"
                assert await stream.next() == {"event": "end", "data": "{}"}
                assert await stream.next() == {}
                assert (await other.status())["status"] == "completed"
                again = await api.client.get(PATH, params=until_end, headers={"Last-Event-ID": last["id"]})
                assert again.status_code == 204
                api.live.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
                assert (await other.status())["status"] == "queued", "it stays open for what is started again"
                async with following(api, "?until=end", **{"Last-Event-ID": first["id"]}) as late:
                    assert [(await late.status())["status"] for _ in range(2)] == ["completed", "queued"]
                    api.live.finish("talk", "failed")
                    assert (await late.status())["status"] == "failed", "an end that was missed is not the end"
                    assert await late.next() == {"event": "end", "data": "{}"}
            await until(lambda: api.app.state.events.listeners == 0)
            api.app.state.services.redis.delete(key("talk"))  # an hour later
            ended = await api.present()
            async with following(api, "?until=end", **{"Last-Event-ID": last["id"]}) as late:
                kept = await late.next()
                assert json.loads(kept["data"]) == ended
            again = await api.client.get(PATH, params=until_end, headers={"Last-Event-ID": kept["id"]})
            assert again.status_code == 204

    asyncio.run(story())


def test_who_has_seen_more_elsewhere_is_not_sent_back_and_a_deletion_is_told_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events._FRESH_SECONDS", 60.0)

    async def story() -> None:
        async with running(settings) as api:
            redis = api.app.state.services.redis
            api.live.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
            async with following(api) as stream:
                await stream.status()
                redis.hset("pipeline:talk:active", "reason", "new")
                newer = redis.xadd(key("talk"), redis.hgetall("pipeline:talk:active"))  # nobody is woken here yet
                async with following(api, **{"Last-Event-ID": newer}) as other:
                    assert (await other.status())["reason"] == "new"
                assert (await stream.status())["reason"] == "new"
                assert (await api.client.delete("/api/videos/talk")).is_success
                assert await stream.next() == {}

    asyncio.run(story())


def test_a_hundred_follow_one_video_and_all_are_let_go_as_the_server_stops(settings: Settings) -> None:
    async def story() -> None:
        async with running(settings) as api:
            api.live.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
            heard: list[str] = []

            async def follow() -> None:
                async with following(api) as stream:
                    await stream.status()
                    heard.append("first")
                    await stream.status()
                    heard.append("change")
                    assert await stream.next() == {}

            tasks = [asyncio.create_task(follow()) for _ in range(FOLLOWERS)]
            await until(lambda: heard.count("first") == FOLLOWERS)
            assert api.app.state.events.listeners == FOLLOWERS
            refused = await api.client.get(PATH)
            assert_problem(refused, 429, "rate_limited")
            tasks.pop().cancel()
            await until(lambda: api.app.state.events.listeners == FOLLOWERS - 1)
            tasks.append(asyncio.create_task(follow()))  # who has closed one may open another
            await until(lambda: heard.count("first") == FOLLOWERS + 1)
            api.live.run_started("talk", "a run")
            await until(lambda: heard.count("change") == FOLLOWERS)
            api.server.should_exit = True
            async with asyncio.timeout(20):  # not only when uvicorn cancels what is left, after 60 s here
                await asyncio.gather(*tasks)
            assert api.app.state.events.listeners == 0

    asyncio.run(story())


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        raise_file_limit()
        raised, kept = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert kept == hard and (1024 < raised <= hard or raised == hard)


def test_a_stream_outlives_a_redis_that_goes_away(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr("api.events._RECONNECT_SECONDS", 0.1)
    server = EmbeddedRedis(tmp_path / "redis")

    async def story(url: str) -> None:
        async with running(settings.model_copy(update={"configured_redis_url": SecretStr(url)})) as api:
            api.live.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
            async with following(api) as stream:
                assert (await stream.status())["status"] == "queued"
                assert await stream.next() == {"": "still here"}
                await asyncio.to_thread(server.stop)
                for _ in range(3):
                    assert await stream.next() == {"": "still here"}
                assert await asyncio.to_thread(server.start) == url
                await asyncio.to_thread(api.live.run_started, "talk", "a run")
                assert (await stream.status())["status"] == "running"

    try:
        asyncio.run(story(server.start()))
    finally:
        server.stop()


def test_a_stream_is_let_go_after_an_hour_and_head_is_no_stream(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "LONGEST_SECONDS", 0.3)
    monkeypatch.setattr(route, "HEARTBEAT_SECONDS", 0.2)

    async def story() -> None:
        async with running(settings) as api:
            assert (await api.client.head(PATH)).status_code == 404
            api.live.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
            async with following(api) as stream:
                head = await api.client.head(PATH)
                for name in ("content-type", "cache-control", "x-accel-buffering"):
                    assert head.headers[name] == stream.response.headers[name]
                assert (head.status_code, head.content) == (200, b"")
                assert api.app.state.events.listeners == 1
                await stream.status()
                while await stream.next():
                    pass

    asyncio.run(story())


def test_who_takes_too_little_gets_the_newest() -> None:
    async def story() -> None:
        gone: list[Listener] = []
        listener = Listener(gone.append, [])
        for number in range(1000):
            listener.put(Change(None, str(number), is_over=False))
        waiting = []
        while change := await listener.next(0.01):
            waiting.append(int(change.data))
        assert waiting[-1] == 999
        assert len(waiting) <= 32
        listener.put(Change(None, "the last", is_over=True))
        listener.end()
        last = await listener.next(0.01)
        assert last and last.data == "the last"
        with pytest.raises(StopAsyncIteration):
            await listener.next(0.01)
        listener.close()
        assert gone == [listener]

    asyncio.run(story())


def test_events_are_bounded_and_gone_with_the_video(settings: Settings) -> None:
    redis = connect(settings.redis_url)
    live = LiveStatus(redis)
    live.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
    for number in range(3 * MOST_KEPT):
        live.note("talk", str(number))
    assert MOST_KEPT <= redis.xlen(key("talk")) < 2 * MOST_KEPT  # pyright: ignore[reportOperatorIssue]
    assert 0 < redis.ttl(key("talk")) <= 3600  # pyright: ignore[reportOperatorIssue]
    [(newest, status)] = live.changes("talk", None)
    assert status.reason == str(3 * MOST_KEPT - 1)
    assert live.changes("talk", newest) == []
    live.forget("talk")
    assert redis.keys("pipeline:talk:*") == []
    redis.close()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/pipeline/nobody/events", 404, "not_found"),
        ("/api/pipeline/no%20name/events", 422, "invalid_identifier"),
        ("/api/pipeline/talk/events?until=never", 422, "invalid_input"),
        ("/api/pipeline/talk/events?since=1", 422, "invalid_input"),
    ],
)
def test_what_can_not_be_followed_is_a_problem(client: TestClient, path: str, status: int, code: str) -> None:
    assert_problem(client.get(path), status, code)
