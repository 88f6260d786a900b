"""The live status on an event loop: what `LiveStatus` reads, for many at once."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests import live_reads
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.requests.stages import STAGES_OF, PipelineType, Stage
from videomoments_dagster.requests.status import LiveStatus, PipelineStatus
from videomoments_dagster.stack.redis import EmbeddedRedis


def _with_reads(redis_url: str, ask: Callable[[LiveReads], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        reads = LiveReads(redis_url)
        try:
            return await ask(reads)
        finally:
            await reads.close()

    return asyncio.run(main())


@pytest.fixture
def live(redis_url: str, redis: "Redis") -> LiveStatus:
    live = LiveStatus(connect(redis_url))
    for number in range(300):
        live.begin(f"v{number}", request_id=f"r{number}", pipeline_type="full", stages=STAGES_OF[PipelineType.FULL])
    live.stage_started("v7", Stage.TRANSCRIPTION)
    live.stage_failed("v7", Stage.TRANSCRIPTION, {"message": "è un errore"})
    redis.hset("pipeline:half:active", "request_id", "no status")
    redis.set("pipeline:wrong:active", "no hash")
    return live


def test_many_at_once_are_told_what_each_asked_for(redis_url: str, live: LiveStatus) -> None:
    asked = [f"v{number}" for number in range(300)] + ["v7", "half", "nobody"]

    async def ask(reads: LiveReads) -> list[PipelineStatus | None]:
        return await asyncio.gather(*map(reads.read, asked))

    assert _with_reads(redis_url, ask) == [live.read(video) for video in asked]


def test_a_key_that_is_no_hash_is_nobody_elses_error(redis_url: str, live: LiveStatus) -> None:
    async def ask(reads: LiveReads) -> list[Any]:
        return await asyncio.gather(*map(reads.read, ["v1", "v2", "wrong", "v3"]), return_exceptions=True)

    *_, second, wrong, third = _with_reads(redis_url, ask)
    assert isinstance(wrong, ServiceUnavailable)
    assert (second, third) == (live.read("v2"), live.read("v3"))


def test_who_goes_away_takes_no_others_answer_along(redis_url: str, live: LiveStatus) -> None:
    async def ask(reads: LiveReads) -> list[Any]:
        asking = [asyncio.ensure_future(reads.read(f"v{number}")) for number in range(20)]
        await asyncio.sleep(0)
        for each in asking[::2]:
            each.cancel()
        return await asyncio.gather(*asking[1::2])

    assert _with_reads(redis_url, ask) == [live.read(f"v{number}") for number in range(1, 20, 2)]


def test_a_redis_that_goes_away_is_named_and_found_again(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    url = server.start()
    LiveStatus(connect(url)).begin("v", request_id="r", pipeline_type="full", stages=STAGES_OF[PipelineType.FULL])

    async def ask(reads: LiveReads) -> str:
        first = await reads.read("v")
        server.stop()
        gone = await asyncio.gather(*(reads.read("v") for _ in range(5)), return_exceptions=True)
        assert {type(each) for each in gone} == {ServiceUnavailable}
        assert server.start() == url
        again = await reads.read("v")
        assert again == first
        assert again is not None
        return again.status

    try:
        assert _with_reads(url, ask) == "queued"
    finally:
        server.stop()


def test_a_redis_that_says_nothing_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_reads, "_SECONDS", 0.3)

    async def ask(reads: LiveReads) -> list[Any]:
        first = asyncio.ensure_future(reads.read("a"))
        await asyncio.sleep(0.05)
        return await asyncio.gather(first, *map(reads.read, "bcd"), return_exceptions=True)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        told = _with_reads(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", ask)
    assert {type(each) for each in told} == {ServiceUnavailable}
    assert time.monotonic() - begun < 2.0, "each asked again: 4 x 0.3 s, and redis-py's own retries"


def test_who_waits_as_the_loop_ends_is_told(redis_url: str, live: LiveStatus) -> None:
    async def ask(reads: LiveReads) -> list[Any]:
        asking = [asyncio.ensure_future(reads.read(f"v{number}")) for number in range(5)]
        await asyncio.sleep(0)
        await reads.close()
        return await asyncio.gather(*asking, return_exceptions=True)

    told = asyncio.run(asyncio.wait_for(ask(LiveReads(redis_url)), 5))
    assert all(isinstance(each, (ServiceUnavailable, PipelineStatus)) for each in told)
