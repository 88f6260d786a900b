"""What was: runs with their stages, failures that stand. And what waits: the place in the queue."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis

from api.services import Services
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.requests.stages import Stage

ERROR = {
    "stage": "AUDIO_EXTRACTION",
    "code": "no_audio",
    "message": "No audio.",
    "hint": "Use another.",
    "retryable": False,
}
STARTED = factories.minutes_later(1)


@pytest.fixture
def failed_run(services: Services) -> Iterator[str]:
    """The identifier of a run of the video 'talk' that failed, with its details in Redis."""
    with services.database.session() as session:
        factories.video(session, identifier="talk")
        factories.request(
            session,
            "talk",
            request_id="r1",
            state="finished",
            requested_at=factories.minutes_later(0),
            error=json.dumps(ERROR),
        )
        run = run_queries.record(
            session,
            video_identifier="talk",
            pipeline_type="full",
            status="failed",
            started_at=STARTED,
            completed_at=factories.minutes_later(2),
            error_stage="AUDIO_EXTRACTION",
            error_message="No audio. Use another.",
        )
    services.status.begin("talk", request_id="r1", pipeline_type="full", stages=Stage, run_id="run")
    services.status.stage_completed("talk", Stage.VIDEO_DOWNLOAD)
    services.status.stage_failed("talk", Stage.AUDIO_EXTRACTION, ERROR)
    services.status.keep_run("talk", STARTED, "run", "failed", ERROR)
    services.status.begin("talk", request_id="r2", pipeline_type="full", stages=Stage)
    yield run.identifier


def test_a_run_is_shown_with_its_stages_for_a_day(
    client: TestClient, services: Services, redis: "Redis", app: FastAPI, failed_run: str
) -> None:
    path = f"/api/pipeline/talk/history/{failed_run}"
    [listed] = client.get("/api/pipeline/talk/history").json()["items"]
    shown = client.get(path).json()
    assert {key: shown[key] for key in listed} == listed
    assert (shown["request_id"], shown["run_id"], shown["error"]) == ("r1", "run", ERROR)
    stages = {each["stage"]: each for each in shown["stages"]}
    assert stages["VIDEO_DOWNLOAD"]["status"] == "completed"
    assert stages["AUDIO_EXTRACTION"]["error"] == ERROR
    assert 0 < int(str(redis.ttl(failed_run))) <= 24 * 3600, "the key is the history row's identifier"

    redis.delete(failed_run)
    later = client.get(path).json()
    assert later == {**shown, "request_id": None, "run_id": None, "error": None, "stages": None}
    app.state.services = Services(
        services.settings,
        services.database,
        connect("redis://127.0.0.1:1/0"),
        services.store,
        LiveReads("redis://127.0.0.1:1/0"),
    )
    assert client.get(path).json() == later


def test_a_run_is_found_under_its_own_video_only(client: TestClient, services: Services, failed_run: str) -> None:
    with services.database.session() as session:
        factories.video(session, identifier="other")
    for path in (f"other/history/{failed_run}", "talk/history/pipeline:talk:1", "nobody/history/x"):
        assert_problem(client.get(f"/api/pipeline/{path}"), 404, "not_found")
    assert_problem(client.get("/api/pipeline/a.b/history/x"), 422, "invalid_identifier")


def test_failures_say_what_to_do_page_by_page(client: TestClient, services: Services, failed_run: str) -> None:
    with services.database.session() as session:
        gone = factories.run(
            session, None, identifier="pipeline:gone:1767225840000", status="failed", error_message="404.",
            started_at=factories.minutes_later(4),
        )  # fmt: skip
    first = client.get("/api/pipeline/failures?limit=1").json()
    assert [(each["video_id"], each["message"], each["code"]) for each in first["items"]] == [("gone", "404.", None)]
    rest = client.get("/api/pipeline/failures", params={"cursor": first["next_cursor"]}).json()
    assert rest == {
        "items": [
            {
                "video_id": "talk",
                "run": failed_run,
                "status": "failed",
                "failed_at": "2026-01-01T00:02:00Z",
                **ERROR,
                "request_id": "r1",
            }
        ],
        "next_cursor": None,
    }
    client.post("/api/pipeline/talk/retry")
    assert [each["run"] for each in client.get("/api/pipeline/failures").json()["items"]] == [gone.identifier]


def test_a_burst_of_submissions_queues_and_each_knows_its_place(
    client: TestClient, services: Services, redis: "Redis", statements: QueryCounter
) -> None:
    def submit(number: int) -> str:
        answer = client.post("/api/videos", json={"url": f"https://example.org/burst-{number}.mp4"})
        assert answer.status_code == 202
        return answer.json()["request_id"]

    with ThreadPoolExecutor(8) as pool:
        submitted = set(pool.map(submit, range(200)))
    with services.database.read() as session:
        queue = request_queries.queued_before(session, factories.minutes_later(10**9), limit=500)
    assert {row.request_id for row in queue} == submitted
    for place in (1, 2, 100, 200):
        with statements() as sent:
            body = client.get(f"/api/pipeline/{queue[place - 1].video_identifier}/status").json()
        assert (body["status"], body["queue_position"]) == ("queued", place)
        assert len(sent) == 2
    with services.database.session() as session:
        for row in queue[:50]:
            request_queries.mark_launched(session, row.request_id, "run")
    last = queue[-1].video_identifier
    assert client.get(f"/api/pipeline/{last}/status").json()["queue_position"] == 150
    assert client.get(f"/api/pipeline/{queue[0].video_identifier}/status").json()["queue_position"] is None
    redis.flushall()
    assert client.get(f"/api/pipeline/{last}/status").json()["queue_position"] == 150
    services.status.begin(last, request_id=queue[-1].request_id, pipeline_type="full", stages=Stage, run_id="run")
    assert client.get(f"/api/pipeline/{last}/status").json()["queue_position"] is None
