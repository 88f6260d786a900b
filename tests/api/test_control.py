"""Cancelling and retrying over HTTP: what is asked for is in the row, whatever becomes of Redis."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from api.services import Services
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests.api.conftest import assert_problem, messages, store_video
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.cancel import CancelFlag
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.stack.ports import free_port

URL = "https://example.com/talk.mp4"


def _submit(client: TestClient, **config: object) -> str:
    return client.post("/api/videos", json={"url": URL, "config": config}).json()["request_id"]


def _end(services: Services, request_id: str, status: str, kind: str = "full") -> None:
    """The end of a request's run, as the run status sensors record it."""
    with services.database.session() as session:
        now = datetime.now(UTC) + timedelta(milliseconds=1)
        run_queries.record(
            session, video_identifier="talk", pipeline_type=kind, status=status, started_at=now, completed_at=now
        )
        request_queries.mark_finished(session, request_id)
    services.status.finish("talk", status)
    services.lock.release("talk", request_id)


def test_cancelling_is_noted_in_the_row_and_heard_by_the_run(
    client: TestClient, services: Services, redis: "Redis"
) -> None:
    request_id = _submit(client)
    first, again = (client.post("/api/pipeline/talk/cancel") for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json() == {
        "video_id": "talk", "request_id": request_id, "status_url": "/api/pipeline/talk/status",
    }  # fmt: skip
    assert CancelFlag(redis).ordered("talk") == request_id
    with services.database.read() as session:
        [row] = request_queries.to_cancel(session, 10)
    assert row.request_id == request_id
    assert_problem(client.post("/api/pipeline/talk/start"), 409, "pipeline_active")
    _end(services, request_id, "cancelled")
    assert "cancelled" in assert_problem(client.post("/api/pipeline/talk/cancel"), 409, "nothing_to_cancel")["detail"]
    assert client.post("/api/pipeline/talk/start").status_code == 202, "at once"


def test_a_wish_to_cancel_outlives_a_redis_that_is_away(client: TestClient, services: Services, app) -> None:
    request_id = _submit(client)
    redis = services.redis
    away = connect(f"redis://127.0.0.1:{free_port()}/0", timeout_seconds=0.2)
    object.__setattr__(services, "redis", away)
    try:
        assert client.post("/api/pipeline/talk/cancel").status_code == 202
    finally:
        object.__setattr__(services, "redis", redis)
    with services.database.read() as session:
        assert [row.request_id for row in request_queries.to_cancel(session, 10)] == [request_id]


def test_a_run_from_the_dagster_ui_is_cancelled_by_its_own_id(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        store_video(services, session, "talk")
    assert_problem(client.post("/api/pipeline/talk/cancel"), 404, "not_found")
    assert_problem(client.post("/api/pipeline/nobody/cancel"), 404, "not_found")
    services.lock.acquire("talk", "the-run's-id")
    assert client.post("/api/pipeline/talk/cancel").json()["request_id"] == "the-run's-id"
    assert CancelFlag(services.redis).ordered("talk") == "the-run's-id"


def test_a_run_executed_again_in_the_ui_is_cancelled_and_blocks_although_its_request_is_over(
    client: TestClient, services: Services, redis: "Redis"
) -> None:
    """It inherits the request's tag: the lock is the request's, its status is of its own."""
    request_id = _submit(client)
    _end(services, request_id, "failed")
    with services.database.session() as session:
        store_video(services, session, "talk", source_url=URL)
        began = datetime.now(UTC) + timedelta(seconds=1)
        run_queries.record(session, video_identifier="talk", pipeline_type="full", status="running", started_at=began)
    no_run = assert_problem(client.post("/api/pipeline/talk/cancel"), 409, "nothing_to_cancel")
    assert "Dagster UI" in no_run["hint"], "Redis lost all that it knew of the run"
    services.status.begin("talk", request_id=request_id, pipeline_type="full", stages=Stage, run_id="run-2")
    lease = RunLease(redis, "run-2")
    lease.claim("a-worker")
    assert client.post("/api/pipeline/talk/cancel").json()["request_id"] == "run-2", "Redis lost its lock"
    assert lease.renew("a-worker") is True
    redis.delete("run:run-2:cancel")
    services.lock.acquire("talk", request_id)
    assert client.post("/api/pipeline/talk/cancel").json()["request_id"] == request_id
    assert CancelFlag(redis).ordered("talk") == request_id
    assert lease.renew("a-worker") is True
    for asked in (
        client.post("/api/pipeline/talk/start"),
        client.post("/api/videos", json={"url": URL}),
        client.delete("/api/videos/talk"),
    ):
        assert assert_problem(asked, 409, "pipeline_active")["request_id"] == request_id
    assert services.lock.owner("talk") == request_id, "the living run's"
    with services.database.session() as session:
        run_queries.record(
            session, video_identifier="talk", pipeline_type="full", status="cancelled", started_at=began,
            completed_at=began,
        )  # fmt: skip
    assert_problem(client.post("/api/pipeline/talk/cancel"), 409, "nothing_to_cancel")
    assert client.post("/api/pipeline/talk/start").status_code == 202, "its lock was left over"


@pytest.mark.parametrize("ended", ["failed", "partial", "cancelled"])
def test_a_retry_asks_for_the_same_again_but_only_what_is_left(
    client: TestClient, services: Services, redis: "Redis", ended: str
) -> None:
    _end(services, _submit(client, max_moments=3), ended)
    retried = client.post("/api/pipeline/talk/retry")
    assert retried.status_code == 202
    assert retried.json()["pipeline_type"] == "full"
    message = services.stream.parse(messages(redis)[-1])
    assert message.config == {"max_moments": 3, "resume": True}  # pyright: ignore[reportAttributeAccessIssue]
    assert_problem(client.post("/api/pipeline/talk/retry"), 409, "pipeline_active")


def test_there_is_nothing_to_retry_after_a_run_that_completed(client: TestClient, services: Services) -> None:
    assert_problem(client.post("/api/pipeline/talk/retry"), 404, "not_found")
    _end(services, _submit(client), "completed")
    assert "nothing is left" in assert_problem(client.post("/api/pipeline/talk/retry"), 409, "conflict")["detail"]


def test_a_retry_is_of_what_ran_last_even_when_that_was_started_in_the_ui(
    client: TestClient, services: Services, redis: "Redis"
) -> None:
    """Its configuration is that of the video; what was asked for one moment alone says nothing of the others."""
    with services.database.session() as session:
        store_video(services, session, "talk", source_url=URL)
    for kind, config in (("full", {"max_moments": 3}), ("refinement_only", {"moment": "a" * 16})):
        with services.database.session() as session:
            request_queries.create(
                session, request_id=kind, video_identifier="talk", source_url=None, pipeline_type=kind, config=config
            )
        _end(services, kind, "completed", kind)
    with services.database.session() as session:
        later = datetime.now(UTC) + timedelta(seconds=1)
        run_queries.record(session, video_identifier="talk", pipeline_type="full", status="failed", started_at=later)
    retried = client.post("/api/pipeline/talk/retry", headers={"Idempotency-Key": "once"})
    assert retried.json()["pipeline_type"] == "full"
    message = services.stream.parse(messages(redis)[-1])
    assert message.config == {"max_moments": 3, "resume": True}  # pyright: ignore[reportAttributeAccessIssue]
    repeated = client.post("/api/pipeline/talk/retry", headers={"Idempotency-Key": "once"})
    assert repeated.json() == retried.json()
