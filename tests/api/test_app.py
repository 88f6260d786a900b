import asyncio
import re
import resource
import subprocess
import sys

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient

from api.app import create_app
from api.routes.health import Checks
from api.services import Services
from db.session import Database
from tests.api.conftest import QueryCounter, assert_problem
from videomoments_dagster.errors import InvalidConfig, ServiceUnavailable
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.settings import Settings

NOWHERE = "postgresql+psycopg2://u:secret-pw@127.0.0.1:1/x"


def test_an_unknown_path_and_a_wrong_method_are_problems(client: TestClient) -> None:
    assert_problem(client.get("/api/nothing"), 404, "not_found")
    response = client.patch("/api/videos")
    assert_problem(response, 405, "method_not_allowed")
    assert "GET" in response.headers["allow"]


@pytest.mark.parametrize("body", [b'{"url": "\xff"}', b"[" * 100_000, b'{"url": ' + b"9" * 5000 + b"}"])
def test_a_body_that_json_can_not_read_is_invalid_input(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/videos", content=body, headers={"Content-Type": "application/json"})
    assert "The body is not JSON" in assert_problem(answer, 422, "invalid_input")["detail"]


def test_a_defect_is_a_problem_without_a_stack_trace(settings: Settings) -> None:
    app = create_app(settings)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a secret detail")

    with TestClient(app, raise_server_exceptions=False) as client:
        problem = assert_problem(client.get("/broken"), 500, "internal_error")
    assert "secret" not in str(problem)


def test_postgresql_gives_up_a_read_after_ten_seconds(settings: Settings) -> None:
    services = Services.open(settings)
    with services.database.read() as session:
        assert session.connection().exec_driver_sql("SHOW statement_timeout").scalar() == "10s"
    asyncio.run(services.close())


def test_the_root_leads_to_the_documentation(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["location"] == "/docs"
    page = client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href|url)(?:=|: )["\']([^"\']+)', page.text)
    assert len(loaded) == 4
    for address in loaded:
        assert client.get("/" + address).status_code == 200, "all of it comes from here"
    assert_problem(client.get("/docs/assets/__init__.py"), 404, "not_found")


def test_health_names_what_is_connected(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "ok"}
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "database": "connected", "redis": "connected", "storage": "connected"}


def test_health_is_asked_once_a_second_however_often_it_is_told(
    app: FastAPI, client: TestClient, statements: QueryCounter
) -> None:
    kept, seconds = app.state.health, iter([0.0, 0.9, 1.1, 1.1])  # after, before, before, after a check
    app.state.health = Checks(clock=lambda: next(seconds))
    try:
        for asked in (1, 0, 1):
            with statements() as sent:
                assert client.get("/health").json()["status"] == "ok"
            assert len(sent) == asked
    finally:
        app.state.health = kept


def test_without_its_services_the_api_says_so(app: FastAPI, client: TestClient, settings: Settings) -> None:
    services: Services = app.state.services
    away = Database(NOWHERE)
    app.state.services = Services(
        settings,
        away,
        connect("redis://:secret-pw@127.0.0.1:1/0"),
        services.store,
        LiveReads("redis://:secret-pw@127.0.0.1:1/0"),
    )
    response = client.get("/health")
    assert response.status_code == 503
    assert response.json() == {
        "status": "degraded",
        "database": "unavailable",
        "redis": "unavailable",
        "storage": "connected",
    }
    for ask in (
        lambda: client.get("/api/videos"),
        lambda: client.post("/api/videos", json={"url": "https://example.org/a.mp4"}),
        lambda: client.delete("/api/videos/a"),
        lambda: client.get("/api/pipeline/a/status"),
    ):
        response = ask()
        problem = assert_problem(response, 503, "service_unavailable")
        assert problem["retryable"] is True
        assert response.headers["retry-after"]
        assert "secret-pw" not in response.text
    assert client.get("/health/live").status_code == 200


def test_without_redis_nothing_is_submitted_but_everything_is_read(
    app: FastAPI, client: TestClient, settings: Settings
) -> None:
    services: Services = app.state.services
    app.state.services = Services(
        settings,
        services.database,
        connect("redis://127.0.0.1:1/0"),
        services.store,
        LiveReads("redis://127.0.0.1:1/0"),
    )
    submitted = client.post("/api/videos", json={"url": "https://example.org/a.mp4"})
    assert_problem(submitted, 503, "service_unavailable")
    file = {"file": ("b.mp4", b"abc", "video/mp4")}
    assert_problem(client.post("/api/videos/upload", files=file), 503, "service_unavailable")
    assert list(services.store.list("")) == []
    assert client.get("/api/videos").json()["items"] == []
    assert_problem(client.get("/api/pipeline/a/status"), 404, "not_found")


def test_when_redis_fails_after_the_commit_the_request_still_stands(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object, **_more: object) -> None:
        raise ServiceUnavailable("Redis does not answer.")

    services: Services = app.state.services
    monkeypatch.setattr(type(services.stream), "publish", away)
    monkeypatch.setattr(type(services.status), "begin", away)
    response = client.post("/api/videos", json={"url": "https://example.org/a.mp4"})
    assert response.status_code == 202
    assert client.get("/api/pipeline/a/status").json()["status"] == "queued"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])  # noqa: S104
def test_it_refuses_to_listen_where_others_could_ask(settings: Settings, host: str) -> None:
    with pytest.raises(InvalidConfig, match="has no keys"):
        create_app(settings.model_copy(update={"backend_host": host}))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_it_listens_on_loopback(settings: Settings, host: str) -> None:
    assert create_app(settings.model_copy(update={"backend_host": host}))


def test_without_a_platform_it_says_how_to_start_one(home) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        create_app(Settings.model_validate({"VIDEOMOMENTS_HOME": home}))
    assert "videomoments up" in caught.value.hint


def test_dagster_is_never_loaded_and_the_import_is_quick(settings: Settings) -> None:
    code = (
        "import sys; from api.app import create_app; create_app();"
        "print([m for m in ('dagster', 'google.cloud.storage', 'av', 'numpy') if m in sys.modules])"
    )
    environment = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "VIDEOMOMENTS_HOME": str(settings.home),
        "PATH": "/usr/bin:/bin",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout == "[]\n", done.stderr
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_seconds < 3.0, "1.0 s on an idle machine"


def test_every_operation_is_documented(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    seen = set()
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert operation["operationId"] not in seen, where
            seen.add(operation["operationId"])
            assert set(operation["tags"]) <= described, where
            assert {"422", "500", "503"} <= set(operation["responses"]), where
            for status, response in operation["responses"].items():
                for media_type, media in response.get("content", {}).items():
                    assert "example" in media, f"{where} {status}"
                    if status >= "400" and "Health" not in str(media):
                        assert media_type == "application/problem+json", f"{where} {status}"
            if "requestBody" in operation:
                for media in operation["requestBody"]["content"].values():
                    assert "example" in media, where
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert len(seen) >= 66


def test_every_route_is_in_the_document_or_meant_to_be_hidden(app: FastAPI, client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    routes = [found.original_route for found in iter_route_contexts(app.routes)]
    hidden = {route.path for route in routes if isinstance(route, APIRoute) and not route.include_in_schema}
    assert hidden <= {"/", "/docs", "/docs/assets/{name}", "/objects/{name:path}"}
    assert "/objects/{name}" in document["paths"]


def test_output_has_every_key_always(client: TestClient) -> None:
    """Output models have no defaults: generated clients need not guess which keys may be absent."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("Video", "VideoDetails", "Moment", "Clip", "Transcript", "Status", "StageState", "Run", "Submitted"):
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"]), name
