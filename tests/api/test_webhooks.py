"""Naming a webhook with a request, and the log of what it was told."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from api.services import Services
from db.models import PipelineRequest
from db.queries import requests as request_queries
from db.queries import webhooks as queries
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem, messages, store_video

HOOK, SECRET = "https://hooks.example.org/for/talk?token=t0ken", "canary-of-the-webhook"
WEBHOOK = {"webhook_url": HOOK, "webhook_secret": SECRET}
LOG = "/api/webhooks/deliveries"


def _of(services: Services, request_id: str) -> tuple[str | None, str | None]:
    with services.database.read() as session:
        row = request_queries.get(session, request_id)
    assert row
    return row.webhook_url, row.webhook_secret


def _ended(session: Session, video: str, event: str = "completed", **values: Any) -> PipelineRequest:
    """A request that has ended, and its delivery."""
    request = factories.request(session, video, state="finished", webhook_url=HOOK, webhook_secret=SECRET, **values)
    told = {"type": f"pipeline.{event}", "data": {"video_id": video}}
    assert queries.record(session, request.request_id, event, lambda _: told)
    return request


def test_every_way_to_start_a_pipeline_takes_a_webhook_and_a_retry_keeps_it(
    client: TestClient, services: Services, redis
) -> None:
    with services.database.session() as session:
        store_video(services, session, "known")
    answers = [
        client.post("/api/videos", json={"url": "https://example.org/talk.mp4", **WEBHOOK}),
        client.post("/api/videos/upload", files={"file": ("film.mp4", b"abc", "video/mp4")}, data=WEBHOOK),
        client.post("/api/pipeline/known/start", json=WEBHOOK),
    ]
    for answer in answers:
        assert answer.status_code == 202, answer.text
        assert _of(services, answer.json()["request_id"]) == (HOOK, SECRET)
        assert SECRET not in answer.text
    assert SECRET not in json.dumps(messages(redis)), "it stays in the row"
    request_id = answers[0].json()["request_id"]
    with services.database.session() as session:
        request_queries.mark_finished(session, request_id)
    services.lock.release("talk", request_id)
    retried = client.post("/api/pipeline/talk/retry")
    assert retried.status_code == 202, retried.text
    assert _of(services, retried.json()["request_id"]) == (HOOK, SECRET)


@pytest.mark.parametrize(
    ("webhook", "code"),
    [
        ({"webhook_url": "ftp://example.org/a"}, "address_refused"),
        ({"webhook_url": "https://user:word@example.org/a"}, "address_refused"),
        ({"webhook_url": HOOK, "webhook_secret": "short"}, "invalid_input"),
        ({"webhook_url": HOOK, "webhook_secret": "whsec_no base64 follows"}, "invalid_input"),
        ({"webhook_secret": SECRET}, "invalid_input"),
        ({"webhook_url": ""}, "invalid_input"),
    ],
)
def test_a_webhook_that_can_not_be_used_is_refused_and_no_secret_repeated(
    client: TestClient, services: Services, webhook: dict[str, str], code: str
) -> None:
    response = client.post("/api/videos", json={"url": "https://example.org/talk.mp4", **webhook})
    assert_problem(response, 422, code)
    assert webhook.get("webhook_secret", "-") not in response.text
    assert "word@" not in response.text
    with services.database.read() as session:
        assert request_queries.newest(session, "talk") is None


def test_the_log_says_what_was_told_and_no_secret(
    client: TestClient, services: Services, statements: QueryCounter
) -> None:
    with services.database.session() as session:
        requests = [
            _ended(session, video, event) for video, event in [("a", "completed"), ("a", "failed"), ("b", "failed")]
        ]
        [claimed] = queries.claim(session, limit=1, per_receiver=1, lease_seconds=60)
        queries.settle(session, claimed, is_delivered=True, status=200, error=None, pause_seconds=None)
        ids = [each.request_id for each in requests]
    with statements() as sent:
        page = client.get(LOG, params={"limit": 2})
    assert len([each for each in sent if each.startswith("SELECT")]) == 1
    assert SECRET not in page.text and "t0ken" not in page.text
    rest = client.get(LOG, params={"cursor": page.json()["next_cursor"]}).json()
    items = [*page.json()["items"], *rest["items"]]
    assert (len(items), rest["next_cursor"]) == (3, None)
    assert {each["receiver"] for each in items} == {"https://hooks.example.org"}
    [delivered] = client.get(LOG, params={"state": "delivered"}).json()["items"]
    assert (delivered["attempts"], delivered["last_status"]) == (1, 200)
    assert len(client.get(LOG, params={"state": "pending"}).json()["items"]) == 2
    assert client.get(LOG, params={"state": "failed"}).json()["items"] == []
    assert len(client.get(LOG, params={"video": "a"}).json()["items"]) == 2
    assert [each["event"] for each in client.get(LOG, params={"request_id": ids[2]}).json()["items"]] == ["failed"]
    for wrong in ({"state": "lost"}, {"limit": 0}, {"cursor": "x"}, {"colour": "red"}):
        assert_problem(client.get(LOG, params=wrong), 422, "invalid_input")


def test_a_delivery_can_be_asked_for_again(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        _ended(session, "a")
        [claimed] = queries.claim(session, limit=1, per_receiver=1, lease_seconds=60)
        queries.settle(session, claimed, is_delivered=False, status=410, error="gone", pause_seconds=None)
    again = client.post(f"{LOG}/{claimed.identifier}/redeliver")
    assert again.status_code == 202
    assert (again.json()["state"], again.json()["attempts"], again.json()["last_error"]) == ("pending", 0, "gone")
    with services.database.session() as session:
        assert [each.identifier for each in queries.claim(session, limit=9, per_receiver=9, lease_seconds=60)] == [
            claimed.identifier
        ]
    assert_problem(client.post(f"{LOG}/msg_{'0' * 32}/redeliver"), 404, "not_found")
    assert_problem(client.post(f"{LOG}/nonsense/redeliver"), 422, "invalid_input")
