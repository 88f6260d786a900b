"""GET /metrics as a scraper sees it, read by a parser of the test's own: the format's grammar, not the library's."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import text

from api import measuring
from api.measuring import Metrics
from api.observing import HttpMetrics
from api.services import Services
from db.models import PipelineRequest
from db.queries import metrics as metric_queries
from db.session import Database
from tests import factories
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.requests.metrics import MODEL_SECONDS, MODEL_TOKENS, STAGE_SECONDS
from videomoments_dagster.requests.metrics import Metrics as CountedMetrics
from videomoments_dagster.requests.workers import Worker, WorkerRegistry

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (-?[0-9.]+(?:e[+-]?\d+)?|[+-]Inf|NaN)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """The samples of an exposition; every family has its TYPE before it, and each sample is there once."""
    samples: Samples = {}
    types: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, f"{name} comes twice"
            types[name] = kind
        elif not line.startswith("# HELP "):
            found = _SAMPLE.fullmatch(line)
            assert found, line
            name, labels = found[1], _LABEL.findall(found[2] or "")
            assert ",".join(f'{key}="{value}"' for key, value in labels) == (found[2] or ""), line
            family = name if name in types else re.sub(r"_(bucket|sum|count)$", "", name)
            assert types[family] in {"counter", "gauge", "histogram"}
            key = (name, frozenset(labels))
            assert key not in samples, line
            samples[key] = float(found[3])
    return samples


@pytest.fixture
def fresh(app: FastAPI) -> Iterator[FastAPI]:
    """Without what other tests' scrapes have kept."""
    whole, app.state.metrics = app.state.metrics, Metrics(HttpMetrics())
    yield app
    app.state.metrics = whole


def _scrape(client: TestClient) -> Samples:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parsed(response.text)


def _value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"videomoments_{name}", frozenset(labels.items())]


def test_the_whole_platform_is_in_one_answer(fresh: FastAPI, client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        video = factories.video(session, identifier="measured", file_size_kb=7)
        factories.thumbnail(session, video, file_size_kb=3)
        for number, state in enumerate(["queued", "queued", "launched", "finished"]):
            asked = datetime.now(UTC) - timedelta(seconds=100 * number)
            session.add(_request(number, state, asked))
        factories.run(session, video, status="completed")
    counted = CountedMetrics(services.redis)
    for seconds in (0.1, 7.0, 10_000.0):
        counted.observe(STAGE_SECONDS, ("TRANSCRIPTION", "completed"), seconds)
    counted.observe(MODEL_SECONDS, ('odd "name"\\', "chat", "answered"), 1.5)
    counted.count(MODEL_TOKENS, {("m", "prompt"): 100, ("m", "completion"): 20})
    counted.count(MODEL_TOKENS, {("m", "prompt"): 11})
    WorkerRegistry(services.redis).announce(Worker("w1", "host-a", 1, ["video"], processes=4, running=3))
    services.redis.xadd("pipeline:requests:dead", {"dead_reason": "?"})

    samples = _scrape(client)
    assert [_value(samples, "requests", state=state) for state in ("queued", "launched", "finished", "rejected")] == [
        2, 1, 1, 0,
    ]  # fmt: skip
    assert _value(samples, "queue_depth", state="queued") == 2
    assert 100 <= _value(samples, "queue_oldest_seconds") < 130
    assert _value(samples, "runs", status="completed") == 1
    assert _value(samples, "runs", status="failed") == 0
    assert _value(samples, "stored_bytes", kind="video") == 7 * 1024
    assert _value(samples, "stored_bytes", kind="thumbnail") == 3 * 1024
    stage = {"stage": "TRANSCRIPTION", "outcome": "completed"}
    at_most = {le: _value(samples, "stage_seconds_bucket", **stage, le=le) for le in ("0.1", "5.0", "10.0", "+Inf")}
    assert at_most == {"0.1": 1, "5.0": 1, "10.0": 2, "+Inf": 3}
    assert _value(samples, "stage_seconds_count", **stage) == 3
    assert _value(samples, "stage_seconds_sum", **stage) == pytest.approx(10_007.1)
    assert _value(samples, "model_request_seconds_count", model=r"odd \"name\"\\", kind="chat", outcome="answered") == 1
    assert _value(samples, "model_tokens_total", model="m", direction="prompt") == 111
    assert _value(samples, "worker_processes", host="host-a", state="busy") == 3
    assert _value(samples, "worker_processes", host="host-a", state="idle") == 1
    assert _value(samples, "dead_messages") == 1
    assert _value(samples, "up", part="postgresql") == _value(samples, "up", part="redis") == 1


def test_scraping_again_asks_postgresql_nothing(fresh: FastAPI, client: TestClient, statements: Any) -> None:
    _scrape(client)
    with statements() as sent:
        _scrape(client)
    assert sent == []


def test_http_requests_are_counted_by_the_template_of_their_route(client: TestClient) -> None:
    before = _scrape(client)
    for name in ("nobody-1", "nobody-2"):
        assert client.get(f"/api/videos/{name}").status_code == 404
    client.get("/wp-admin/no-such-page")
    client.get("/api/pipeline/nobody-1/events")
    after = _scrape(client)
    assert "nobody-1" not in str(after) and "wp-admin" not in str(after)

    def grown(name: str, **labels: str) -> float:
        key = (f"videomoments_{name}", frozenset(labels.items()))
        return after[key] - before.get(key, 0)

    where = {"method": "GET", "route": "/api/videos/{video}"}
    assert grown("http_requests_total", **where, status="404") == 2
    assert grown("http_request_seconds_count", **where) == 2
    assert grown("http_requests_total", method="GET", route="unknown", status="404") == 1
    stream = {"method": "GET", "route": "/api/pipeline/{video}/events"}
    assert grown("http_requests_total", **stream, status="404") == 1
    assert ("videomoments_http_request_seconds_count", frozenset(stream.items())) not in after, "it lasts as one likes"


def test_without_postgresql_and_redis_the_rest_is_told(fresh: FastAPI, client: TestClient, services: Services) -> None:
    nowhere = Database("postgresql+psycopg2://u:secret-pw@127.0.0.1:1/x")
    fresh.state.services = Services(
        services.settings, nowhere, connect("redis://127.0.0.1:1/0"), services.store, LiveReads("redis://127.0.0.1:1/0")
    )
    samples = _scrape(client)
    assert _value(samples, "up", part="postgresql") == _value(samples, "up", part="redis") == 0
    names = {name for name, _ in samples}
    assert "videomoments_build_info" in names and "videomoments_queue_depth" not in names


def test_a_stall_is_told_while_it_lasts_and_nobody_else_waits_for_it(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_QUEUE_SECONDS", 0.05)
    monkeypatch.setattr(measuring, "_SHARE", 3)
    monkeypatch.setattr(metric_queries, "_LONGEST_MS", 400)
    metrics = Metrics(HttpMetrics())

    def up() -> float:
        return _value(parsed(metrics.text(services).decode()), "up", part="postgresql")

    assert up() == 1
    Event().wait(0.15)
    with ThreadPoolExecutor(1) as pool, services.database.session() as session:
        session.execute(text("LOCK TABLE pipeline_requests"))
        stalled = pool.submit(up)
        Event().wait(0.1)
        began = time.monotonic()
        assert up() == 1, "as it was before"
        assert time.monotonic() - began < 0.25
        assert stalled.result() == 0
    Event().wait(0.15)
    assert up() == 1


def test_counting_never_fails_without_redis() -> None:
    CountedMetrics(connect("redis://127.0.0.1:1/0")).observe(STAGE_SECONDS, ("SCORING", "failed"), 1.0)


def test_counts_of_many_processes_add_up(redis: Redis) -> None:
    first, second = CountedMetrics(redis), CountedMetrics(redis)
    for metrics in (first, second, first):
        metrics.observe(STAGE_SECONDS, ("SCORING", "completed"), 0.5)
    [value] = second.histogram(STAGE_SECONDS).values()
    assert (value.cumulative[0], value.cumulative[1], value.cumulative[-1], value.sum) == (0, 3, 3, 1.5)


def _request(number: int, state: str, requested_at: datetime) -> PipelineRequest:
    return PipelineRequest(
        request_id=f"metric-{number}",
        video_identifier=f"metric-{number}",
        pipeline_type="full",
        config={},
        state=state,
        requested_at=requested_at,
    )
