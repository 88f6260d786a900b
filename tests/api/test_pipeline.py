import json

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from api.services import Services
from db.queries import requests as request_queries
from tests import factories
from tests.api.conftest import assert_problem, messages, store_video
from videomoments_dagster.requests.stages import STAGES_OF, PipelineType, Stage
from videomoments_dagster.requests.stream import STREAM

ERROR = {
    "stage": "AUDIO_EXTRACTION",
    "code": "no_audio",
    "message": "No audio.",
    "hint": "Use another.",
    "retryable": False,
}


@pytest.fixture
def talk(services: Services) -> str:
    with services.database.session() as session:
        video = store_video(services, session, "talk")
        factories.transcript(session, video)
        factories.moment(session, video)
    return "talk"


@pytest.mark.parametrize("kind", list(PipelineType))
def test_a_start_is_a_row_a_lock_a_status_and_a_message(
    client: TestClient, services: Services, redis: "Redis", talk: str, kind: PipelineType
) -> None:
    response = client.post(f"/api/pipeline/{talk}/start", json={"pipeline_type": kind, "config": {"max_moments": 2}})
    assert response.status_code == 202
    body = response.json()
    assert (body["video_id"], body["pipeline_type"]) == (talk, kind)
    assert services.lock.owner(talk) == body["request_id"]
    (fields,) = messages(redis)
    message = services.stream.parse(fields)
    assert (message.pipeline_type, message.url, message.config) == (kind, None, {"max_moments": 2})  # pyright: ignore
    stages = {each["stage"]: each["status"] for each in client.get(body["status_url"]).json()["stages"]}
    assert stages == {stage: "pending" if stage in STAGES_OF[kind] else "skipped" for stage in Stage}


def test_both_spellings_of_start_and_status_are_the_same(client: TestClient, services: Services, talk: str) -> None:
    body = client.post("/api/pipeline/start", json={"video_id": talk}).json()
    problem = assert_problem(client.post(f"/api/pipeline/{talk}/start"), 409, "pipeline_active")
    assert problem["request_id"] == body["request_id"]
    one, other = client.get(f"/api/pipeline/{talk}/status"), client.get(f"/api/pipeline/status/{talk}")
    assert one.status_code == 200
    assert one.json() == other.json()


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/pipeline/start", {}, 422, "invalid_input"),
        ("/api/pipeline/start", {"video_id": "a/b"}, 422, "invalid_identifier"),
        ("/api/pipeline/start", {"video_id": "nobody"}, 404, "not_found"),
        ("/api/pipeline/nobody/start", {}, 404, "not_found"),
        ("/api/pipeline/nobody/start", {"pipeline_type": "clips_only"}, 404, "not_found"),
        ("/api/pipeline/talk/start", {"video_id": "other"}, 422, "invalid_input"),
        ("/api/pipeline/talk/start", {"pipeline_type": "half"}, 422, "invalid_input"),
        ("/api/pipeline/talk/start", {"config": {"padding_left": -1}}, 422, "invalid_input"),
        ("/api/pipeline/talk/start", {"colour": "red"}, 422, "invalid_input"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(
    client: TestClient, redis: "Redis", talk: str, path: str, body: dict, status: int, code: str
) -> None:
    assert_problem(client.post(path, json=body), status, code)
    assert redis.keys("*") == []


def test_a_part_whose_input_is_missing_is_refused(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        store_video(services, session, "fresh")
    for kind in ("moments_only", "clips_only"):
        assert_problem(
            client.post("/api/pipeline/fresh/start", json={"pipeline_type": kind}), 409, "stage_input_missing"
        )


def test_a_submission_whose_download_failed_can_be_started_again(client: TestClient, services: Services) -> None:
    first = client.post("/api/videos", json={"url": "https://example.org/a.mp4"}).json()
    with services.database.session() as session:
        request_queries.mark_finished(session, first["request_id"], error="gone")
    services.lock.release("a", first["request_id"])
    assert client.post("/api/pipeline/a/start").status_code == 202


def test_an_idempotency_key_starts_once(client: TestClient, redis: "Redis", talk: str) -> None:
    headers = {"Idempotency-Key": "s1"}
    answers = [client.post(f"/api/pipeline/{talk}/start", headers=headers) for _ in range(2)]
    assert answers[0].status_code == 202
    assert answers[0].json() == answers[1].json()
    assert redis.xlen(STREAM) == 1


def test_live_progress_and_errors_are_shown(client: TestClient, services: Services, talk: str) -> None:
    services.status.begin(talk, request_id="r", pipeline_type="full", stages=Stage, run_id="run")
    services.status.stage_started(talk, Stage.VIDEO_DOWNLOAD)
    services.status.stage_completed(talk, Stage.VIDEO_DOWNLOAD)
    services.status.stage_started(talk, Stage.AUDIO_EXTRACTION)
    services.status.stage_progress(talk, Stage.AUDIO_EXTRACTION, 0.25)
    body = client.get(f"/api/pipeline/{talk}/status").json()
    assert set(body) == {
        "video_id", "request_id", "run_id", "pipeline_type", "status", "queued_at", "started_at", "completed_at",
        "error", "reason", "queue_position", "stages",
    }  # fmt: skip
    download, audio = body["stages"][:2]
    assert (download["status"], download["progress"]) == ("completed", 1.0)
    assert download["completed_at"] >= download["started_at"]
    assert (audio["status"], audio["progress"]) == ("running", 0.25)
    services.status.stage_failed(talk, Stage.AUDIO_EXTRACTION, ERROR)
    services.status.finish(talk, "failed", ERROR)
    body = client.get(f"/api/pipeline/{talk}/status").json()
    assert (body["status"], body["error"], body["stages"][1]["error"]) == ("failed", ERROR, ERROR)


def test_the_reason_for_no_moments_is_shown(client: TestClient, services: Services, talk: str) -> None:
    services.status.begin(talk, request_id="r", pipeline_type="full", stages=Stage)
    services.status.note(talk, "Nobody speaks.")
    services.status.finish(talk, "completed")
    body = client.get(f"/api/pipeline/{talk}/status").json()
    assert (body["status"], body["reason"]) == ("completed", "Nobody speaks.")


class TestWithoutTheHash:
    """Redis keeps a status for a day and may lose it; PostgreSQL remembers what matters."""

    def test_a_queued_request(self, client: TestClient, redis: "Redis") -> None:
        request = client.post("/api/videos", json={"url": "https://example.org/a.mp4"}).json()
        redis.flushall()
        body = client.get("/api/pipeline/a/status").json()
        assert (body["status"], body["request_id"]) == ("queued", request["request_id"])
        assert {each["status"] for each in body["stages"]} == {"pending"}

    def test_a_completed_run(self, client: TestClient, services: Services) -> None:
        with services.database.session() as session:
            video = factories.video(session, identifier="a")
            factories.run(session, video, started_at=factories.minutes_later(-9), status="failed")
            row = factories.request(
                session, "a", state="finished", requested_at=factories.minutes_later(0), run_id="run"
            )
            factories.run(session, video, started_at=factories.minutes_later(1), status="completed")
        body = client.get("/api/pipeline/a/status").json()
        assert (body["status"], body["request_id"], body["run_id"]) == ("completed", row.request_id, "run")
        assert {(each["status"], each["progress"]) for each in body["stages"]} == {("completed", 1.0)}

    def test_a_launched_request_is_not_taken_for_the_run_before_it(
        self, client: TestClient, services: Services
    ) -> None:
        with services.database.session() as session:
            video = factories.video(session, identifier="a")
            factories.run(session, video, started_at=factories.minutes_later(0), status="completed")
            factories.request(session, "a", state="launched", requested_at=factories.minutes_later(5))
        assert client.get("/api/pipeline/a/status").json()["status"] == "running"

    def test_a_failed_run_says_where_and_why(self, client: TestClient, services: Services) -> None:
        with services.database.session() as session:
            factories.request(
                session, "a", state="finished", requested_at=factories.minutes_later(0), error=json.dumps(ERROR)
            )
            factories.run(
                session,
                identifier="pipeline:a:1",
                status="failed",
                started_at=factories.minutes_later(1),
                completed_at=factories.minutes_later(2),
                error_stage="AUDIO_EXTRACTION",
                error_message="No audio.",
            )
        body = client.get("/api/pipeline/a/status").json()
        assert (body["status"], body["error"]) == ("failed", ERROR)
        states = {each["stage"]: each["status"] for each in body["stages"]}
        assert (states["VIDEO_DOWNLOAD"], states["AUDIO_EXTRACTION"], states["SCORING"]) == (
            "completed",
            "failed",
            "pending",
        )

    def test_a_run_started_in_the_ui(self, client: TestClient, services: Services) -> None:
        with services.database.session() as session:
            video = factories.video(session, identifier="ui")
            factories.run(session, video, pipeline_type="moments_only", status="completed")
        body = client.get("/api/pipeline/ui/status").json()
        assert (body["status"], body["request_id"], body["pipeline_type"]) == ("completed", None, "moments_only")
        assert {each["status"] for each in body["stages"]} == {"completed", "skipped"}

    def test_a_video_that_was_never_processed_has_no_status(self, client: TestClient, talk: str) -> None:
        problem = assert_problem(client.get(f"/api/pipeline/{talk}/status"), 404, "not_found")
        assert "Nothing was ever processed" in problem["detail"]


def test_history_is_newest_first_and_paged(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        video, other = factories.video(session, identifier="a"), factories.video(session, identifier="b")
        for minute in range(5):
            factories.run(session, video, started_at=factories.minutes_later(minute), total_moments_generated=minute)
        factories.run(
            session, other, started_at=factories.minutes_later(9), status="failed", error_stage="TRANSCRIPTION"
        )
    first = client.get("/api/pipeline/a/history", params={"limit": 3}).json()
    rest = client.get("/api/pipeline/a/history", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [each["total_moments_generated"] for each in first["items"] + rest["items"]] == [4, 3, 2, 1, 0]
    assert rest["next_cursor"] is None
    recent = client.get("/api/pipeline/recent").json()["items"]
    assert (recent[0]["video_id"], recent[0]["error_stage"]) == ("b", "TRANSCRIPTION")
    assert len(recent) == 6
