"""What every HTTP request leaves behind: its id in the answer, a line in the log, and nothing of what is secret."""

import logging

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from api.observing import HttpMetrics, Observed
from tests.api.conftest import assert_problem
from videomoments_dagster.logs import JsonLines
from videomoments_dagster.settings import Settings


@pytest.mark.parametrize("given", ["a", "Run-7_b.c", "x" * 64])
def test_the_clients_request_id_is_answered(client: TestClient, given: str) -> None:
    assert client.get("/health/live", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"b', "a/b", "é".encode()])
def test_another_is_made_when_it_has_none_or_one_that_can_not_be_logged(client: TestClient, given: str) -> None:
    answers = [client.get("/no/where", headers={"X-Request-ID": given}) for _ in range(2)]
    first, second = (answer.headers["x-request-id"] for answer in answers)
    assert first != second and len(first) == len(second) == 32


def test_a_request_is_a_line_with_the_template_of_its_path(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "videomoments")
    client.get("/api/videos/secret-talk?limit=1", headers={"X-Request-ID": "mine"})
    client.get("/health/live")
    body = {"url": "https://example.org/talk.mp4?token=canary"}
    accepted = client.post("/api/videos", json=body, headers={"X-Request-ID": "theirs"}).json()
    access = [record for record in caplog.records if record.name == "videomoments.access"]
    assert [(r.getMessage(), vars(r)["route"], vars(r)["status"]) for r in access] == [
        ("GET /api/videos/{video} 422", "/api/videos/{video}", 422),
        ("POST /api/videos 202", "/api/videos", 202),
    ]
    assert all(0 < vars(record)["seconds"] < 60 for record in access)
    [line] = [record for record in caplog.records if record.name == "videomoments.api"]
    assert line.getMessage() == "Request accepted."
    assert accepted["request_id"]
    assert "canary" not in "".join(JsonLines("api").format(record) for record in caplog.records)


def test_the_lines_of_a_request_carry_its_ids(client: TestClient) -> None:
    lines: list[dict[str, object]] = []
    formatter = JsonLines("api")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(formatter.fields(record))  # as it is logged: the context is of then
    logger = logging.getLogger("videomoments")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        body = {"url": "https://example.org/ids.mp4"}
        accepted = client.post("/api/videos", json=body, headers={"X-Request-ID": "mine"}).json()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    submitted = next(line for line in lines if line["logger"] == "videomoments.api")
    assert (submitted["request_id"], submitted["video"]) == (accepted["request_id"], "ids")
    assert {line["http_request_id"] for line in lines} == {"mine"}


def test_a_defect_is_logged_once_and_its_id_told(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(settings)

    @app.get("/broken/{name}")
    def broken(name: str) -> None:
        raise RuntimeError("of https://host/x?token=canary")

    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/broken/x", headers={"X-Request-ID": "mine"})
        problem = assert_problem(response, 500, "internal_error")
        text = client.get("/metrics").text
    assert response.headers["x-request-id"] == "mine" and "X-Request-ID" in problem["hint"]
    [logged] = [record for record in caplog.records if record.exc_info]
    assert "RuntimeError" in JsonLines("api").format(logged) and "canary" not in JsonLines("api").format(logged)
    assert 'method="GET",route="/broken/{name}",status="500"} 1.0' in text


def test_what_is_read_well_does_not_fill_the_log(
    app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "videomoments.access")
    client.post("/api/videos", json={"url": "https://example.org/waited.mp4"})
    caplog.clear()
    for path in ("/api/pipeline/waited/status", "/api/videos", "/health", "/docs"):
        assert client.get(path).status_code == 200
    assert client.get("/api/pipeline/nobody/status").status_code == 404

    slow = TestClient(Observed(app, HttpMetrics(), clock=iter([0.0, 1.5]).__next__))
    assert slow.get("/health/live").status_code == 200
    said = [record.getMessage() for record in caplog.records if record.name == "videomoments.access"]
    assert said == ["GET /api/pipeline/{video}/status 404", "GET /health/live 200"]
