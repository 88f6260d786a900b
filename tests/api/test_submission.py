import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import text

from api.services import Services
from db.queries import deletion as deletion_queries
from db.queries import requests as request_queries
from db.queries import videos as video_queries
from db.query import Query
from tests import factories
from tests.api.conftest import assert_problem, messages, store_video
from videomoments_dagster.requests.stream import DEAD, STREAM
from videomoments_dagster.storage import names

URL = "https://example.org/talks/Motivation.mp4"


def submit(client: TestClient, url: str = URL, **body):
    return client.post("/api/videos", json={"url": url, **body})


def finish(services: Services, video: str, request_id: str) -> None:
    with services.database.session() as session:
        request_queries.mark_finished(session, request_id)
    services.lock.release(video, request_id)


def test_a_submitted_url_becomes_a_row_a_lock_a_status_and_a_message(
    client: TestClient, services: Services, redis: "Redis"
) -> None:
    response = submit(client, url=URL + "?utm_source=x#t=3", title="Why", config={"max_moments": 3})
    assert response.status_code == 202
    body = response.json()
    assert body["video_id"] == "Motivation"
    assert body["status_url"] == "/api/pipeline/Motivation/status"
    assert body["already_processed"] is False
    with services.database.session() as session:
        row = request_queries.get(session, body["request_id"])
        assert row
        assert (row.state, row.source_url, row.pipeline_type) == ("queued", URL, "full")
        assert row.config == {"max_moments": 3, "title": "Why"}
    assert services.lock.owner("Motivation") == body["request_id"]
    status = client.get(body["status_url"]).json()
    assert (status["status"], status["request_id"]) == ("queued", body["request_id"])
    assert {stage["status"] for stage in status["stages"]} == {"pending"}
    (fields,) = messages(redis)
    message = services.stream.parse(fields)
    assert (message.request_id, message.url, message.config) == (body["request_id"], URL, row.config)  # pyright: ignore


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "ftp://example.org/a.mp4"}, 422, "address_refused"),
        ({"url": "not a url"}, 422, "address_refused"),
        ({"url": ""}, 422, "invalid_input"),
        ({}, 422, "invalid_input"),
        ({"url": URL, "identifier": "a/b"}, 422, "invalid_identifier"),
        ({"url": URL, "identifier": "../../etc"}, 422, "invalid_identifier"),
        ({"url": URL, "title": ""}, 422, "invalid_input"),
        ({"url": URL, "title": "a\0b"}, 422, "invalid_input"),
        ({"url": URL, "colour": "red"}, 422, "invalid_input"),
        ({"url": URL, "config": {"max_momentz": 3}}, 422, "invalid_input"),
        ({"url": URL, "config": {"max_moments": 0}}, 422, "invalid_input"),
        ({"url": URL, "config": {"min_moments": 5, "max_moments": 2}}, 422, "invalid_input"),
    ],
)
def test_a_submission_that_can_not_be_understood_leaves_nothing(
    client: TestClient, redis: "Redis", body: dict, status: int, code: str
) -> None:
    assert_problem(client.post("/api/videos", json=body), status, code)
    assert redis.keys("*") == []
    assert_problem(client.get("/api/pipeline/Motivation/status"), 404, "not_found")


def test_a_body_that_is_not_json_is_a_problem(client: TestClient) -> None:
    response = client.post("/api/videos", content=b"{url", headers={"content-type": "application/json"})
    assert_problem(response, 422, "invalid_input")


def test_the_same_url_again_while_it_is_processed_is_a_conflict_that_names_the_request(client: TestClient) -> None:
    first = submit(client).json()
    problem = assert_problem(
        submit(client, url=URL.replace("https://example.org", "HTTPS://EXAMPLE.org:443")), 409, "pipeline_active"
    )
    assert problem["request_id"] == first["request_id"]


def test_another_url_with_the_same_file_name_gets_an_identifier_of_its_own(client: TestClient) -> None:
    first, second = submit(client).json(), submit(client, url="https://example.com/Motivation.mp4").json()
    assert first["video_id"] == "Motivation"
    assert second["video_id"].startswith("Motivation-")
    assert len(second["video_id"]) == len("Motivation-") + 6


def test_an_identifier_that_was_asked_for_and_is_taken_is_a_conflict(client: TestClient) -> None:
    assert submit(client, identifier="talk").status_code == 202
    assert_problem(submit(client, url="https://example.com/b.mp4", identifier="talk"), 409, "conflict")


def test_a_url_that_was_processed_is_answered_at_once(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        video = store_video(services, session, "old-name", source_url=URL)
        factories.moment(session, video)
    response = submit(client)
    assert response.status_code == 200
    assert response.json() == {
        "video_id": "old-name",
        "request_id": None,
        "status_url": "/api/pipeline/old-name/status",
        "already_processed": True,
    }


def test_a_completed_run_without_moments_counts_as_processed(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        factories.run(session, store_video(services, session, "silent", source_url=URL), status="completed")
    assert submit(client).json()["already_processed"] is True


def test_a_url_whose_run_failed_is_tried_again_under_its_identifier(client: TestClient, services: Services) -> None:
    first = submit(client).json()
    finish(services, "Motivation", first["request_id"])
    with services.database.session() as session:
        factories.run(session, store_video(services, session, "Motivation", source_url=URL), status="failed")
    second = submit(client)
    assert second.status_code == 202
    assert second.json()["video_id"] == "Motivation"
    assert second.json()["request_id"] != first["request_id"]


def test_a_lock_left_by_a_request_that_is_over_does_not_block(client: TestClient, services: Services) -> None:
    first = submit(client).json()
    with services.database.session() as session:
        request_queries.mark_finished(session, first["request_id"])
    assert services.lock.owner("Motivation") == first["request_id"]
    assert submit(client).status_code == 202


def test_a_run_from_the_dagster_ui_blocks(client: TestClient, services: Services) -> None:
    services.lock.acquire("Motivation", "a-dagster-run-id")
    assert assert_problem(submit(client), 409, "pipeline_active")["request_id"] == "a-dagster-run-id"


def test_an_idempotency_key_gives_the_same_answer_again(client: TestClient, redis: "Redis") -> None:
    headers = {"Idempotency-Key": "k1"}
    answers = [client.post("/api/videos", json={"url": URL}, headers=headers) for _ in range(3)]
    assert [each.status_code for each in answers] == [202] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert redis.xlen(STREAM) == 1
    for another in ({"url": URL + "2"}, {"config": {"max_moments": 2}}, {"webhook_url": "https://example.org/hook"}):
        other = client.post("/api/videos", json={"url": URL, **another}, headers=headers)
        assert_problem(other, 409, "conflict")
    assert_problem(
        client.post("/api/videos", json={"url": URL}, headers={"Idempotency-Key": "x" * 256}), 422, "invalid_input"
    )


def test_of_many_submissions_at_once_one_wins(client: TestClient, redis: "Redis") -> None:
    gate = threading.Barrier(12)

    def one(_: int) -> int:
        gate.wait()
        return submit(client).status_code

    with ThreadPoolExecutor(12) as pool:
        codes = sorted(pool.map(one, range(12)))
    assert codes == [202] + [409] * 11
    assert redis.xlen(STREAM) == 1


@pytest.mark.parametrize("path", ["/api/videos", "/api/videos/upload"])
def test_the_same_with_one_idempotency_key_at_once_gives_one_answer(
    client: TestClient, services: Services, redis: "Redis", path: str
) -> None:
    """All have looked for the key before one of them is through."""
    body = {"json": {"url": URL}} if path == "/api/videos" else {"files": {"file": ("a.mp4", b"abc", "video/mp4")}}
    identifier = "Motivation" if path == "/api/videos" else "a"
    with ThreadPoolExecutor(4) as pool, services.database.session() as held:
        request_queries.lock_video(held, identifier)
        posts = [pool.submit(client.post, path, headers={"Idempotency-Key": "k"}, **body) for _ in range(4)]
        _wait_for_lock_waiters(services, 4)
        held.rollback()
        answers = [each.result() for each in posts]
    assert [each.status_code for each in answers] == [202] * 4
    assert len({each.text for each in answers}) == 1
    assert redis.xlen(STREAM) == 1
    assert len(list(services.store.list("uploads/"))) == (path != "/api/videos")


def test_one_idempotency_key_for_two_urls_at_once_is_a_conflict_for_one(
    client: TestClient, services: Services, redis: "Redis"
) -> None:
    with ThreadPoolExecutor(2) as pool, services.database.session() as held:
        posts = []
        for name in ("one", "two"):
            request_queries.lock_video(held, name)
            body = {"url": f"https://example.org/{name}.mp4"}
            posts.append(pool.submit(client.post, "/api/videos", json=body, headers={"Idempotency-Key": "k"}))
        _wait_for_lock_waiters(services, 2)
        held.rollback()
        codes = sorted(each.result().status_code for each in posts)
    assert codes == [202, 409]
    assert redis.xlen(STREAM) == 1


def _wait_for_lock_waiters(services: Services, count: int) -> None:
    """Until so many transactions wait for a video's lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with services.database.read() as session:
            if session.scalar(waiting) == count:
                return
        time.sleep(0.02)
    raise AssertionError(f"No {count} transactions wait for the lock.")


def test_a_url_whose_video_is_deleted_while_it_is_looked_at_is_processed_anew(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.database.session() as session:
        factories.moment(session, store_video(services, session, "old-name", source_url=URL))
    overview = video_queries.overview

    def too_late(identifier: str) -> Query[video_queries.VideoOverview]:
        with services.database.session() as other:
            deletion_queries.delete_rows(other, identifier)
            deletion_queries.delete_requests(other, identifier)
        return overview(identifier)

    with monkeypatch.context() as patch:
        patch.setattr(video_queries, "overview", too_late)
        response = submit(client)
    assert (response.status_code, response.json()["already_processed"]) == (202, False)


def test_many_urls_with_one_name_at_once_all_get_in(client: TestClient, redis: "Redis") -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda i: submit(client, url=f"https://example.org/{i}/talk.mp4"), range(10)))
    assert {each.status_code for each in answers} == {202}
    assert len({each.json()["video_id"] for each in answers}) == 10
    assert redis.xlen(STREAM) == 10


def test_the_message_is_one_the_sensor_understands(client: TestClient, redis: "Redis") -> None:
    submit(client)
    assert redis.exists(DEAD) == 0


class TestUploads:
    def upload(self, client: TestClient, content: bytes = b"movie" * 1000, name: str = "My talk.MP4", **data):
        return client.post("/api/videos/upload", files={"file": (name, content, "video/mp4")}, data=data)

    def test_a_file_is_stored_as_the_requests_upload_and_submitted(
        self, client: TestClient, services: Services, redis: "Redis", home: Path
    ) -> None:
        response = self.upload(client, title="A talk", config=json.dumps({"min_moments": 2}))
        assert response.status_code == 202, response.text
        body = response.json()
        assert body["video_id"] == "My-talk"
        stored = services.store.require(names.upload("My-talk", body["request_id"]))
        assert stored.size_bytes == 5000
        with services.database.session() as session:
            row = request_queries.get(session, body["request_id"])
            assert row
            assert (row.source_url, row.config) == (None, {"min_moments": 2, "title": "A talk"})
        assert redis.xlen(STREAM) == 1
        assert list((home / "temp").iterdir()) == []

    def test_a_second_file_of_the_same_name_is_another_video(self, client: TestClient) -> None:
        first, second = self.upload(client).json(), self.upload(client).json()
        assert first["video_id"] == "My-talk"
        assert second["video_id"].startswith("My-talk-")

    def test_an_identifier_that_is_taken_is_a_conflict_and_leaves_no_object(
        self, client: TestClient, services: Services
    ) -> None:
        self.upload(client, identifier="talk")
        before = [each.name for each in services.store.list("")]
        assert_problem(self.upload(client, identifier="talk"), 409, "conflict")
        assert [each.name for each in services.store.list("")] == before

    @pytest.mark.parametrize(
        ("files", "data"),
        [
            ({}, {"title": "no file"}),
            ({"file": ("a.mp4", b"", "video/mp4")}, {}),
            ({"movie": ("a.mp4", b"x", "video/mp4")}, {}),
            ({"file": ("a.mp4", b"x", "video/mp4")}, {"colour": "red"}),
            ({"file": ("a.mp4", b"x", "video/mp4")}, {"config": "[]"}),
            ({"file": ("a.mp4", b"x", "video/mp4")}, {"config": "{"}),
            ({"file": ("a.mp4", b"x", "video/mp4")}, {"config": '{"max_momentz": 1}'}),
            ({"file": ("a.mp4", b"x", "video/mp4")}, {"identifier": "a/b"}),
        ],
    )
    def test_a_form_that_can_not_be_understood_leaves_nothing(
        self, client: TestClient, services: Services, home: Path, redis: "Redis", files: dict, data: dict
    ) -> None:
        response = client.post("/api/videos/upload", files=files or {"title": (None, "no file")}, data=data)
        assert response.status_code == 422, response.text
        assert_problem(response, 422, response.json()["code"])
        assert list(services.store.list("")) == []
        assert list((home / "temp").rglob("*")) == []
        assert redis.keys("*") == []

    def test_a_body_that_is_no_form_is_a_problem(self, client: TestClient) -> None:
        assert_problem(client.post("/api/videos/upload", json={"a": 1}), 422, "invalid_input")
        headers = {"content-type": "multipart/form-data"}
        assert_problem(client.post("/api/videos/upload", content=b"x", headers=headers), 422, "invalid_input")
        cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
        headers = {"content-type": "multipart/form-data; boundary=b"}
        assert_problem(client.post("/api/videos/upload", content=cut, headers=headers), 422, "invalid_input")

    def test_a_file_larger_than_allowed_is_refused(self, client: TestClient, app, services: Services, settings) -> None:
        small = settings.model_copy(update={"max_download_bytes": 2000})
        app.state.services = Services(small, services.database, services.redis, services.store, services.live)
        assert_problem(self.upload(client), 422, "source_too_large")

    def test_the_same_key_uploads_once(self, client: TestClient, services: Services) -> None:
        answers = [
            client.post(
                "/api/videos/upload", files={"file": ("a.mp4", b"abc", "video/mp4")}, headers={"Idempotency-Key": "u1"}
            )
            for _ in range(2)
        ]
        assert answers[0].json() == answers[1].json()
        assert len(list(services.store.list("uploads/"))) == 1
