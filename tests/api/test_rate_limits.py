"""How many requests a key may make, over all processes; and how much, and how slow, a body may be."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from api.app import create_app
from api.body_limits import BODY_BYTES, BodyLimits
from api.keys import Keys
from api.rate_limits import RateLimits
from api.services import Services
from db.queries import api_keys
from tests.api.conftest import assert_problem
from tests.api.test_access import Clock, bearer
from videomoments_dagster.api_keys import hash_of, new_identifier, new_key
from videomoments_dagster.errors import RateLimited
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.requests.rate_limit import RateLimit
from videomoments_dagster.settings import Settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key(services: Services) -> str:
    key = new_key()
    with services.database.session() as session:
        api_keys.create(session, identifier=new_identifier(), name="k", scope="write", key_hash=hash_of(key), days=None)
    return key


@pytest.fixture
def limited(settings: Settings, key: str) -> Iterator[TestClient]:
    """An application whose keys may make six requests a minute."""
    app = create_app(settings.model_copy(update={"rate_limit": 6}))
    app.state.keys = Keys(lambda: 0.0)
    with TestClient(app, headers=bearer(key), raise_server_exceptions=False) as client:
        yield client


def test_a_key_that_has_asked_enough_is_told_when_to_come_back(limited: TestClient, redis: "Redis") -> None:
    left = []
    for _ in range(6):
        answer = limited.get("/api/videos")
        assert answer.status_code == 200 and answer.headers["ratelimit-policy"] == '"default";q=6;w=60'
        left.append(answer.headers["ratelimit"])
    assert left[0] == '"default";r=5;t=10' and left[-1] == '"default";r=0;t=60'
    refused = limited.get("/api/nothing")
    problem = assert_problem(refused, 429, "rate_limited")
    assert problem["retryable"] and 9 <= int(refused.headers["retry-after"]) <= 10
    assert refused.headers["ratelimit"] == '"default";r=0;t=60'
    assert limited.get("/health/live").status_code == 200, "what is public is not counted"
    [bucket] = redis.keys("ratelimit:*")  # pyright: ignore[reportGeneralTypeIssues]
    assert redis.ttl(bucket) > 0


def test_all_processes_share_what_a_key_may_ask(services: Services, clock: Clock, redis: "Redis") -> None:
    processes = [RateLimits(clock) for _ in range(3)]

    async def ask() -> list[int]:
        granted = [0, 0, 0]
        for number, process in enumerate(processes):
            while True:
                try:
                    assert await process.take(services, "shared", 600)
                except RateLimited:
                    break
                granted[number] += 1
        return granted

    granted = asyncio.run(ask())
    assert 600 <= sum(granted) <= 606, "in the time that this took, a few more came in"
    assert redis.info("commandstats")["cmdstat_eval"]["calls"] > 0  # pyright: ignore[reportIndexIssue]


def test_most_requests_ask_redis_nothing(services: Services, clock: Clock, redis: "Redis") -> None:
    limits = RateLimits(clock)

    def calls() -> int:
        stats: Any = redis.info("commandstats")
        return stats.get("cmdstat_eval", {"calls": 0})["calls"]

    async def ask() -> None:
        async def together(number: int) -> None:
            await asyncio.gather(*(limits.take(services, "busy", 1200) for _ in range(number)))

        before = calls()
        await together(200)
        assert calls() - before == 10, "twenty at a time, however many ask at once"
        await together(5)
        clock.now += 11
        await together(5)
        assert calls() - before == 12, "what is kept for long is given up, for others to use"

    asyncio.run(ask())


def test_a_bucket_fills_evenly_and_holds_a_minute(services: Services, redis: "Redis") -> None:
    bucket = RateLimit(services.redis)
    assert bucket.take("b", 1000, 60).granted == 60
    empty = bucket.take("b", 1, 60)
    assert empty.granted == 0 and 0 <= empty.left < 1
    redis.hset("ratelimit:b", "at", float(redis.hget("ratelimit:b", "at") or 0) - 10)  # pyright: ignore[reportArgumentType]
    assert bucket.take("b", 1000, 60).granted == 10
    redis.hset("ratelimit:b", "at", 0)
    assert bucket.take("b", 1000, 60).granted == 60
    assert bucket.take("b", 1000, 30).granted == 0


def test_without_redis_nobody_is_limited_and_it_is_not_asked_each_time(services: Services, clock: Clock) -> None:
    away = Services(
        services.settings,
        services.database,
        connect("redis://127.0.0.1:1/0"),
        services.store,
        LiveReads("redis://127.0.0.1:1/0"),
    )
    limits = RateLimits(clock)

    async def take(where: Services) -> object:
        return await limits.take(where, "k", 1)

    assert asyncio.run(take(away)) is None
    assert asyncio.run(take(services)) is None, "for five seconds it counts as away"
    clock.now += 5
    assert asyncio.run(take(services)) is not None


class TestBodies:
    def test_a_large_one_is_refused(self, client: TestClient) -> None:
        answer = client.post(
            "/api/videos", content=b" " * (BODY_BYTES + 1), headers={"Content-Type": "application/json"}
        )
        problem = assert_problem(answer, 413, "too_large")
        assert str(BODY_BYTES) in problem["detail"]

    @pytest.mark.parametrize(("length", "reads"), [("99999999999", 0), (None, 17), ("7", 17)])
    def test_one_is_read_no_further_than_the_limit(self, length: str | None, reads: int) -> None:
        status, read = sent_to_limits(b" " * 64 * 1024, length=length)
        assert (status, read) == (413, reads)

    def test_one_of_the_largest_size_is_read(self, client: TestClient) -> None:
        body = b'{"url": 1' + b" " * (BODY_BYTES - 10) + b"}"
        assert len(body) == BODY_BYTES
        answer = client.post("/api/videos", content=body, headers={"Content-Type": "application/json"})
        assert_problem(answer, 422, "invalid_input")

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
    def test_what_is_not_json_is_not_read_as_such(self, client: TestClient, kind: str) -> None:
        answer = client.post("/api/videos", content=b'{"url": "x"}', headers={"Content-Type": kind})
        assert_problem(answer, 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"]
    )
    def test_json_by_any_of_its_names_is(self, client: TestClient, kind: str) -> None:
        answer = client.post("/api/videos", content=b'{"url": 1}', headers={"Content-Type": kind})
        assert_problem(answer, 422, "invalid_input")

    def test_an_upload_has_its_own_limit(self, client: TestClient) -> None:
        file = {"file": ("v.mp4", b"x" * (BODY_BYTES + 1), "video/mp4")}
        assert client.post("/api/videos/upload", files=file).status_code == 202

    def test_a_refused_upload_is_not_read_to_its_end(self, limited: TestClient) -> None:
        body = b"x" * (BODY_BYTES + 1)
        refused = limited.post("/api/videos/upload", content=body, headers={"Authorization": "Bearer wrong"})
        assert refused.status_code == 401 and refused.headers["connection"] == "close"
        small = limited.post("/api/videos", json={}, headers={"Authorization": "Bearer wrong"})
        assert small.status_code == 401 and "connection" not in small.headers

    def test_a_slow_one_ends(self) -> None:
        status, read = sent_to_limits(b"{", length="1000", pause_seconds=0.01, limit_seconds=0.05)
        assert status == 408 and read < 6


def sent_to_limits(
    chunk: bytes, *, length: str | None, pause_seconds: float = 0.0, limit_seconds: float = 5.0
) -> tuple[int, int]:
    """A client that sends `chunk` again and again: what it is answered, and how many of them were read."""
    answers: list[Any] = []
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        await asyncio.sleep(pause_seconds)
        read += 1
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        answers.append(message)

    async def never(*_: Any) -> None:
        raise AssertionError("it was handed on")

    headers = [(b"content-type", b"application/json")]
    headers.append((b"transfer-encoding", b"chunked") if length is None else (b"content-length", length.encode()))
    scope = {"type": "http", "method": "POST", "path": "/api/videos", "headers": headers}
    asyncio.run(BodyLimits(never, seconds=limit_seconds)(scope, receive, send))
    return answers[0]["status"], read
