"""A request's end and its webhook: noted once with the end, told at least once, and by nobody held up for long."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook as Verifier

from db.models import WebhookDelivery
from db.queries import requests as request_queries
from db.queries import webhooks as queries
from tests import factories
from tests.web import Web, serving
from videomoments_dagster import webhooks as hooks
from videomoments_dagster.defs.policies import PARTITION_TAG, PIPELINE_TAG, REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.run_end import end_unlaunched, finish
from videomoments_dagster.defs.sensors.ingest import ingest
from videomoments_dagster.defs.sensors.webhooks import webhooks
from videomoments_dagster.errors import Cancelled
from videomoments_dagster.requests.stream import DEAD, STREAM

SECRET = "canary-of-the-webhook"
ERROR = {"stage": "TRANSCRIPTION", "code": "broken", "message": "It broke.", "hint": "Mend it.", "retryable": False}


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture
def heard(web: Web) -> list[dict[str, Any]]:
    """What /hook was told: its answer is 200."""
    heard: list[dict[str, Any]] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        heard.append({"id": request.headers["Webhook-Id"], "headers": dict(request.headers), "body": body})
        request.send_response(200)
        request.send_header("Content-Length", "0")
        request.end_headers()

    web.answers["/hook"] = answer
    return heard


def _request(platform: PlatformResource, video: str, url: str | None, secret: str | None = None) -> str:
    request_id = str(uuid4())
    with platform.database.session() as session:
        request_queries.create(
            session,
            request_id=request_id,
            video_identifier=video,
            source_url=f"https://example.org/{video}.mp4",
            pipeline_type="full",
            config={},
            webhook_url=url,
            webhook_secret=secret,
        )
    return request_id


def _end(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    video: str,
    request_id: str,
    status: str = "completed",
    error: dict[str, Any] | None = None,
) -> None:
    """As the run status sensors record it."""
    tags = {PARTITION_TAG: video, REQUEST_TAG: request_id, PIPELINE_TAG: "full"}
    finish(instance, platform, dg.DagsterRun("full", run_id=str(uuid4()), tags=tags), status, error)


def _deliveries(platform: PlatformResource) -> list[queries.DeliveryView]:
    with platform.database.read() as session:
        return queries.page(session).items


def _tick(platform: PlatformResource) -> str:
    skipped = webhooks(platform=platform)
    assert isinstance(skipped, dg.SkipReason)
    return str(skipped.skip_message)


def _due_now(platform: PlatformResource) -> None:
    with platform.database.session() as session:
        session.execute(text("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE next_attempt_at > now()"))


def test_every_kind_of_end_is_told_once_and_signed(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    web: Web,
    heard: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    hook = f"{web.url}/hook"
    ends = {
        "done": ("completed", None),
        "half": ("partial", ERROR),
        "bad": ("failed", ERROR),
        "ended": ("cancelled", None),
    }
    ids = {video: _request(platform, video, hook, SECRET) for video in ends}
    with platform.database.session() as session:
        video = factories.video(session, identifier="done")
        factories.refined(session, factories.moment(session, video))
    silent = _request(platform, "silent", None)
    for _ in range(2):
        for name, (status, error) in ends.items():
            _end(platform, instance, name, ids[name], status, error)
        _end(platform, instance, "silent", silent)
    unlaunched = _request(platform, "waiting", hook, SECRET)
    with platform.database.session() as session:
        row = request_queries.get(session, unlaunched)
        assert row
        end_unlaunched(platform, session, row, Cancelled("Cancelled before it was started."))
    assert _tick(platform) == "5 of 5 deliveries were heard."
    assert _tick(platform) == "Nothing to tell."
    told = {(content := json.loads(each["body"]))["data"]["video_id"]: content for each in heard}
    assert {name: content["type"] for name, content in told.items()} == {
        "done": "pipeline.completed", "half": "pipeline.failed", "bad": "pipeline.failed",
        "ended": "pipeline.cancelled", "waiting": "pipeline.cancelled",
    }  # fmt: skip
    base = platform.settings.public_url
    assert told["done"]["data"] == {
        "video_id": "done", "request_id": ids["done"], "run_id": None, "pipeline_type": "full", "status": "completed",
        "number_of_moments": 1, "error": None, "status_url": f"{base}/api/pipeline/done/status",
        "moments_url": f"{base}/api/videos/done/moments",
    }  # fmt: skip
    assert (told["half"]["data"]["status"], told["half"]["data"]["error"]) == ("partial", ERROR)
    for each in heard:
        assert Verifier(SECRET.encode()).verify(each["body"], each["headers"])["type"].startswith("pipeline.")
        assert each["id"].startswith("msg_")
    assert len({each["id"] for each in heard}) == 5
    assert {(each.state, each.attempts, each.last_status) for each in _deliveries(platform)} == {("delivered", 1, 200)}
    assert SECRET not in caplog.text


def test_what_is_not_heard_is_told_again_under_the_same_id(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, heard: list[dict[str, Any]]
) -> None:
    listens = web.answers["/hook"]
    web.serve_status("/hook", 500)
    _end(platform, instance, "talk", _request(platform, "talk", f"{web.url}/hook"))
    assert _tick(platform) == "0 of 1 deliveries were heard."
    [waiting] = _deliveries(platform)
    assert (waiting.state, waiting.attempts, waiting.last_status) == ("pending", 1, 500)
    assert waiting.next_attempt_at and waiting.last_attempt_at
    assert timedelta(seconds=4) <= waiting.next_attempt_at - waiting.last_attempt_at < timedelta(seconds=60)
    assert _tick(platform) == "Nothing to tell."
    web.answers["/hook"] = listens
    _due_now(platform)
    assert _tick(platform) == "1 of 1 deliveries were heard."
    [told] = _deliveries(platform)
    assert (told.state, told.attempts, told.last_error, told.identifier) == ("delivered", 2, None, heard[0]["id"])
    with platform.database.session() as session:
        assert queries.redeliver(session, told.identifier)
    _tick(platform)
    assert [each["id"] for each in heard] == [told.identifier] * 2


def test_after_a_day_in_vain_and_where_it_is_not_wanted_it_is_given_up(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.serve_status("/broken", 500)
    web.serve_status("/gone", 410)
    for name in ("broken", "gone"):
        _end(platform, instance, name, _request(platform, name, f"{web.url}/{name}"))
    for _ in range(len(hooks.BACKOFF_SECONDS) + 2):
        _tick(platform)
        _due_now(platform)
    told = {each.video_identifier: each for each in _deliveries(platform)}
    assert {name: (each.state, each.attempts) for name, each in told.items()} == {
        "broken": ("failed", len(hooks.BACKOFF_SECONDS) + 1),
        "gone": ("failed", 1),
    }


def test_one_that_dies_while_it_tells_has_only_put_it_off(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, heard: list[dict[str, Any]]
) -> None:
    _end(platform, instance, "talk", _request(platform, "talk", f"{web.url}/hook"))
    with platform.database.session() as session:
        [claimed] = queries.claim(session, limit=10, per_receiver=10, lease_seconds=60)
        assert SECRET not in repr(claimed)
    assert _tick(platform) == "Nothing to tell.", "it is somebody's"
    _due_now(platform)
    assert _tick(platform) == "1 of 1 deliveries were heard."
    with platform.database.session() as session:
        late = queries.settle(
            session, claimed, is_delivered=False, status=500, error="late", pause_seconds=None
        )  # fmt: skip
    assert not late, "the one that came to life again does not undo it"
    assert [each.state for each in _deliveries(platform)] == ["delivered"]


def test_a_defect_and_one_that_kills_who_tells_it_are_given_up_too(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    web: Web,
    heard: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_package: str) -> str:
        raise RuntimeError

    _end(platform, instance, "talk", _request(platform, "talk", f"{web.url}/hook"))
    with monkeypatch.context() as context:
        context.setattr(hooks, "version", broken)
        assert _tick(platform) == "0 of 1 deliveries were heard."
    [waiting] = _deliveries(platform)
    assert (waiting.state, waiting.attempts) == ("pending", 1)
    assert waiting.last_error and "defect" in waiting.last_error
    for _ in range(hooks.MOST_ATTEMPTS - 1):
        _due_now(platform)
        with platform.database.session() as session:
            assert queries.claim(session, limit=1, per_receiver=1, lease_seconds=60)
    _due_now(platform)
    assert _tick(platform) == "0 of 1 deliveries were heard."
    assert [(each.state, each.attempts) for each in _deliveries(platform)] == [("failed", hooks.MOST_ATTEMPTS + 1)]
    assert heard == []


def test_several_at_once_never_claim_the_same(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    for number in range(8):
        _end(platform, instance, f"v{number}", _request(platform, f"v{number}", f"https://h{number}.example/hook"))
    together = threading.Barrier(4)

    def claim(_: int) -> list[str]:
        together.wait(10)
        with platform.database.session() as session:
            claimed = queries.claim(session, limit=20, per_receiver=2, lease_seconds=60)
        return [each.identifier for each in claimed]

    with ThreadPoolExecutor(4) as threads:
        claimed = [each for batch in threads.map(claim, range(4)) for each in batch]
    assert len(claimed) == len(set(claimed)) == 8


def test_a_receiver_that_does_not_answer_does_not_hold_up_the_others(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    web: Web,
    heard: list[dict[str, Any]],
) -> None:
    listens, all_heard, waited = web.answers["/hook"], threading.Event(), list[bool]()

    def listen(request: BaseHTTPRequestHandler) -> None:
        listens(request)
        if len(heard) == 20:
            all_heard.set()

    web.answers["/hook"] = listen
    with serving() as slow:
        slow.answers["/hook"] = lambda _: waited.append(all_heard.wait(5))
        for number in range(12):
            _end(platform, instance, f"s{number}", _request(platform, f"s{number}", f"{slow.url}/hook"))
        for number in range(20):
            _end(platform, instance, f"v{number}", _request(platform, f"v{number}", f"{web.url}/hook"))
        assert _tick(platform) == "20 of 32 deliveries were heard."
    assert waited == [True] * 12, "all others were told while the first two of its waited"


def test_a_producer_of_messages_may_name_a_webhook(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    given = {"url": "https://example.org/a.mp4", "webhook_secret": SECRET}
    platform.redis.xadd(STREAM, {**given, "request_id": "good", "webhook_url": "https://hooks.example.org/a"})  # pyright: ignore[reportArgumentType]
    platform.redis.xadd(STREAM, {**given, "request_id": "bad", "webhook_url": "ftp://hooks.example.org/a"})  # pyright: ignore[reportArgumentType]
    result = ingest(dg.build_sensor_context(instance=instance, resources={"platform": platform}))
    assert isinstance(result, dg.SensorResult)
    assert [each.run_key for each in result.run_requests or ()] == ["good"]
    assert SECRET not in repr(result)
    with platform.database.read() as session:
        row = request_queries.get(session, "good")
        assert row and (row.webhook_url, row.webhook_secret) == ("https://hooks.example.org/a", SECRET)
    entries: Any = platform.redis.xrange(DEAD)
    [(_, dead)] = entries
    assert dead["dead_reason"].startswith("address_refused")
    assert SECRET not in str(dead)


def test_what_is_over_for_long_is_removed_and_what_waits_is_not(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    for name in ("old", "waiting", "new"):
        _end(platform, instance, name, _request(platform, name, "https://hooks.example.org/a"))
    with platform.database.session() as session:
        session.execute(text("UPDATE webhook_deliveries SET created_at = now() - interval '40 days'"
                             " WHERE payload->'data'->>'video_id' <> 'new'"))  # fmt: skip
        session.execute(text("UPDATE webhook_deliveries SET next_attempt_at = NULL"
                             " WHERE payload->'data'->>'video_id' <> 'waiting'"))  # fmt: skip
        before = datetime.now(UTC) - timedelta(days=30)
        assert queries.prune(session, before, 10) == 1
        assert queries.prune(session, before, 10) == 0
        assert session.query(WebhookDelivery).count() == 2
