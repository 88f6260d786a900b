"""Who may ask: every route is walked without a key and with a smaller scope, and keys end when they are said to."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import delete, text

from api.access import needed_scope
from api.app import create_app
from api.keys import Keys
from api.rate_limits import FailedKeys
from api.services import Services
from db.models import ApiKey
from db.queries import api_keys
from db.session import Database
from tests.api.conftest import assert_problem
from videomoments_dagster.api_keys import hash_of, new_identifier, new_key
from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.redaction import redacted
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.live_reads import LiveReads
from videomoments_dagster.settings import Settings

PUBLIC = {
    "GET /", "GET /docs", "GET /docs/assets/{name}", "GET /openapi.json", "GET /health", "GET /health/live",
    "GET /objects/{name:path}",
    "OPTIONS /api/uploads", "OPTIONS /api/uploads/{upload_id}",
}  # fmt: skip
"""Written down once more: what is public is decided twice."""

Make = Callable[..., str]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guarded(application: tuple[FastAPI, TestClient], app: FastAPI, clock: Clock) -> Iterator[TestClient]:
    """The application as one that has not asked for keys yet."""
    kept = app.state.keys, app.state.failed_keys
    app.state.keys, app.state.failed_keys = Keys(clock), FailedKeys(clock)
    yield application[1]
    app.state.keys, app.state.failed_keys = kept


@pytest.fixture
def make(services: Services) -> Make:
    def make(scope: str, days: float | None = None) -> str:
        key = new_key()
        with services.database.session() as session:
            api_keys.create(
                session, identifier=new_identifier(), name=scope, scope=scope, key_hash=hash_of(key), days=days
            )
        return key

    return make


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of everything the application answers; HEAD and OPTIONS are asked on each path, too."""
    for route in iter_route_contexts(app.routes):
        assert route.path and route.methods, f"{route!r} is no route with methods: who may ask it?"
        yield from ((method, route.path) for method in {*route.methods, "HEAD", "OPTIONS"})


def test_every_route_is_refused_without_a_key_and_with_a_smaller_scope(
    guarded: TestClient, app: FastAPI, make: Make
) -> None:
    keys = {scope: make(scope) for scope in ("read", "write", "admin")}
    smaller = {"read": None, "write": keys["read"], "admin": keys["write"]}
    seen = set()
    asked = list(routes(app))
    assert len(asked) > 100
    for method, path in asked:
        where, url = f"{method} {path}", re.sub(r"\{[^}]+\}", "0123456789ab", path)
        answer = guarded.request(method, url)
        if answer.status_code != 401:
            seen.add(where)
            continue
        assert answer.headers["www-authenticate"] == "Bearer", where
        if method != "HEAD":
            assert_problem(answer, 401, "unauthorized")
        needed = needed_scope(method, path)
        assert needed and needed == needed_scope(method, url), where
        assert (needed == "admin") == path.startswith("/api/admin"), where
        assert needed != "read" or method in {"GET", "HEAD", "OPTIONS"}, where
        if small := smaller[needed]:
            assert guarded.request(method, url, headers=bearer(small)).status_code == 403, where
    assert {where.replace("HEAD", "GET") for where in seen} == {where.replace("HEAD", "GET") for where in PUBLIC}


def test_the_document_says_who_may_ask(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method.upper()} {path.replace('{name}', '{name:path}')}"
            assert ("security" in operation) == (where not in PUBLIC), where
            if "security" in operation:
                assert {"401", "403", "429"} <= set(operation["responses"]), where
            if "requestBody" in operation:
                assert {"408", "413", "415"} <= set(operation["responses"]), where


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/nothing", "/wp-admin", "/docsx", "/health/x", "//health", "/objects", "/API/videos"],
)
def test_unknown_paths_are_refused_too(guarded: TestClient, make: Make, path: str) -> None:
    key = make("read")
    url = f"http://testserver{path}"
    assert_problem(guarded.get(url), 401, "unauthorized")
    assert guarded.get(url, headers=bearer(key)).status_code in {307, 403, 404}


def test_a_scope_includes_the_smaller_ones(guarded: TestClient, make: Make) -> None:
    read, write, admin = make("read"), make("write"), make("admin")
    for key in (read, write, admin):
        assert guarded.get("/api/videos", headers=bearer(key)).status_code == 200
        assert guarded.get("/metrics", headers=bearer(key)).status_code == 200
    assert guarded.delete("/api/videos/nobody", headers=bearer(write)).status_code == 404
    for ask in (guarded.head, guarded.get):  # the first submits an upload that is complete
        upload, version = "/api/uploads/7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e", {"Tus-Resumable": "1.0.0"}
        assert ask(upload, headers=bearer(read) | version).status_code == 403
        assert ask(upload, headers=bearer(write) | version).status_code == 404
    refused = assert_problem(guarded.get("/api/admin/keys", headers=bearer(write)), 403, "forbidden")
    assert "--scope admin" in refused["hint"]
    assert guarded.get("/api/admin/keys", headers=bearer(admin)).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer vm_" + "A" * 43, "Bearer " + "x" * 7000, "Bearer vm_é"],
)
def test_what_is_no_key_is_refused(guarded: TestClient, make: Make, header: str) -> None:
    make("read")
    answer = guarded.get("/api/videos", headers={"Authorization": header.encode()})
    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_is_refused_within_five_seconds_and_the_last_one_does_not_open_the_api(
    guarded: TestClient, make: Make, clock: Clock, services: Services
) -> None:
    assert guarded.get("/api/videos").status_code == 200
    admin = make("admin")
    clock.now += 5
    assert_problem(guarded.get("/api/videos"), 401, "unauthorized")
    [listed] = guarded.get("/api/admin/keys", headers=bearer(admin)).json()["items"]
    revoked = guarded.delete(f"/api/admin/keys/{listed['id']}", headers=bearer(admin))
    assert revoked.status_code == 200 and revoked.json()["revoked_at"]
    clock.now += 4.9
    guarded.get("/api/videos", headers=bearer(admin))
    clock.now += 0.1
    assert_problem(guarded.get("/api/videos", headers=bearer(admin)), 401, "unauthorized")
    with services.database.session() as session:
        session.execute(delete(ApiKey))
    clock.now += 60
    assert_problem(guarded.get("/api/videos"), 401, "unauthorized")


def test_an_expired_key_is_refused_and_keeps_the_api_closed(
    guarded: TestClient, app: FastAPI, make: Make, services: Services
) -> None:
    key = make("admin", days=1)
    assert guarded.get("/api/videos", headers=bearer(key)).status_code == 200
    with services.database.session() as session:
        session.execute(text("UPDATE api_keys SET expires_at = now() - interval '1 second'"))
    app.state.keys = Keys(lambda: 0.0)
    assert_problem(guarded.get("/api/videos", headers=bearer(key)), 401, "unauthorized")
    assert_problem(guarded.get("/api/videos"), 401, "unauthorized")


def test_a_key_is_remembered_no_longer_than_it_is_good(
    guarded: TestClient, app: FastAPI, make: Make, clock: Clock
) -> None:
    key = make("read", days=1 / 86400)
    assert guarded.get("/api/videos", headers=bearer(key)).status_code == 200
    clock.now += 1.0
    assert app.state.keys.remembered(key) is None


def test_checking_a_key_costs_one_statement_in_four_seconds_and_notes_its_use_once_a_minute(
    guarded: TestClient, make: Make, clock: Clock, statements: Any
) -> None:
    key = make("admin")
    with statements() as sent:
        for _ in range(5):
            guarded.get("/api/nothing", headers=bearer(key))
    assert len(sent) == 2, "is any key there, and is this one good"
    clock.now += 4
    with statements() as sent:
        for _ in range(5):
            guarded.get("/api/nothing", headers=bearer(key))
    assert len(sent) == 1
    with statements() as sent:
        [first] = guarded.get("/api/admin/keys", headers=bearer(key)).json()["items"]
    assert len(sent) == 1
    clock.now += 5
    guarded.get("/api/nothing", headers=bearer(key))
    [again] = guarded.get("/api/admin/keys", headers=bearer(key)).json()["items"]
    assert first["last_used_at"] == again["last_used_at"] is not None


def test_without_postgresql_nobody_is_let_in(
    guarded: TestClient, app: FastAPI, make: Make, clock: Clock, services: Services
) -> None:
    key = make("read")
    away = Database("postgresql+psycopg2://u:secret-pw@127.0.0.1:1/x")
    app.state.services = Services(
        services.settings, away, connect("redis://127.0.0.1:1/0"), services.store, LiveReads("redis://127.0.0.1:1/0")
    )
    for headers in ({}, bearer(key)):
        for path in ("/api/videos", "/metrics", "/api/nothing"):
            assert_problem(guarded.get(path, headers=headers), 503, "service_unavailable")
    app.state.services = services
    assert guarded.get("/metrics", headers=bearer(key)).status_code == 200
    app.state.services = Services(
        services.settings, away, connect("redis://127.0.0.1:1/0"), services.store, LiveReads("redis://127.0.0.1:1/0")
    )
    clock.now += 599
    assert guarded.get("/metrics", headers=bearer(key)).status_code == 200, "it tells what is away to whom it knows"
    assert_problem(guarded.get("/api/videos", headers=bearer(key)), 503, "service_unavailable")
    assert_problem(guarded.get("/metrics"), 401, "unauthorized")
    clock.now += 2
    assert_problem(guarded.get("/metrics", headers=bearer(key)), 503, "service_unavailable")


def test_the_operators_key_of_the_same_data_directory_is_admin(
    guarded: TestClient, make: Make, settings: Settings
) -> None:
    make("read")
    key = settings.operator_key
    assert (settings.home / "api.key").stat().st_mode & 0o777 == 0o600
    assert guarded.get("/api/admin/keys", headers=bearer(key)).status_code == 200
    assert "ratelimit" not in guarded.get("/api/videos", headers=bearer(key)).headers
    (settings.home / "api.key").unlink()
    assert_problem(guarded.get("/api/videos", headers=bearer(settings.operator_key + "x")), 401, "unauthorized")


def test_keys_are_made_listed_and_revoked_over_http(guarded: TestClient, clock: Clock) -> None:
    made = guarded.post("/api/admin/keys", json={"name": " dashboard ", "scope": "admin", "expires_days": 90})
    assert made.status_code == 201
    key = made.json()
    assert re.fullmatch(r"vm_[\w-]{43}", key["key"]) and key["name"] == "dashboard" and key["revoked_at"] is None
    clock.now += 5
    admin = bearer(key["key"])
    other = guarded.post("/api/admin/keys", json={"name": "x"}, headers=admin).json()
    assert other["scope"] == "read" and other["expires_at"] is None
    page = guarded.get("/api/admin/keys?limit=1", headers=admin).json()
    rest = guarded.get("/api/admin/keys", params={"cursor": page["next_cursor"]}, headers=admin).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == [other["id"], key["id"]]
    assert not {"key", "key_hash"} & set(page["items"][0])
    for _ in range(2):
        assert guarded.delete(f"/api/admin/keys/{other['id']}", headers=admin).json()["revoked_at"]
    assert_problem(guarded.delete("/api/admin/keys/000000000000", headers=admin), 404, "not_found")
    for body in ({"name": ""}, {"name": "x", "scope": "root"}, {"name": "x", "expires_days": 0}, {"name": "\0"}):
        assert_problem(guarded.post("/api/admin/keys", json=body, headers=admin), 422, "invalid_input")


def test_many_wrong_keys_from_one_address_are_not_looked_at(
    guarded: TestClient, make: Make, clock: Clock, statements: Any, services: Services
) -> None:
    good = make("read")
    assert guarded.get("/api/videos", headers=bearer(good)).status_code == 200
    for _ in range(30):
        assert guarded.get("/api/videos", headers=bearer(new_key())).status_code == 401
    with statements() as sent:
        answer = guarded.get("/api/videos", headers=bearer(new_key()))
    assert_problem(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "2" and sent == []
    assert guarded.get("/api/videos", headers=bearer(good)).status_code == 200, "who is known is not kept out"
    clock.now += 2
    assert guarded.get("/api/videos", headers=bearer(new_key())).status_code == 401
    clock.now += 60
    for _ in range(30):
        guarded.get("/api/videos", headers=bearer(new_key()))
    assert guarded.get("/api/videos", headers=bearer(good)).status_code == 200, "nor when it is asked about again"
    with services.database.session() as session:
        session.execute(delete(ApiKey))
    clock.now += 5
    for _ in range(3):
        guarded.get("/api/videos", headers=bearer(new_key()))
    statuses = [guarded.get("/api/videos", headers=bearer(good)).status_code for _ in range(2)]
    assert statuses == [401, 429], "one that is good no longer is one of the others"


@pytest.mark.parametrize(
    ("address", "same"), [("2001:db8::1", "2001:db8::ffff"), ("192.0.2.1", "192.0.2.1"), ("", ""), ("testclient",) * 2]
)
def test_failures_are_counted_by_address_and_for_so_many_addresses(address: str, same: str, clock: Clock) -> None:
    failed = FailedKeys(clock)
    for _ in range(30):
        failed.note(address)
    with pytest.raises(Exception, match="wrong"):
        failed.check(same)
    failed.check("198.51.100.9")
    for number in range(10_000):
        failed.note(f"host-{number}")
    failed.check(same)  # forgotten: memory is bounded


def test_a_key_is_in_no_log_and_no_answer(
    guarded: TestClient, make: Make, caplog: pytest.LogCaptureFixture, services: Services
) -> None:
    key, wrong = make("read"), new_key()
    with caplog.at_level(logging.DEBUG):
        answers = [
            guarded.get("/api/videos/nobody", headers=bearer(key)),
            guarded.get("/api/admin/keys", headers=bearer(key)),
            guarded.get(f"/api/videos/{wrong}", headers=bearer(wrong)),
        ]
    with services.database.read() as session:
        identifier = session.scalar(text("SELECT identifier FROM api_keys"))
        assert key not in str(session.execute(text("SELECT * FROM api_keys")).all())
    assert [vars(record)["api_key"] for record in caplog.records if "api_key" in vars(record)] == [identifier] * 2
    ours = [record for record in caplog.records if record.name != "httpx"]  # the test's own client
    for secret in (key, wrong):
        assert secret not in str([(record.getMessage(), vars(record)) for record in ours])
        assert secret not in "".join(answer.text for answer in answers)
        assert secret[3:] not in redacted(f"curl said {secret}, and {secret}x")


class TestWithoutKeys:
    @pytest.mark.parametrize(
        "host", ["localhost", "127.0.0.1:7005", "[::1]:7005", "127.9.9.9", "testserver", "TestServer:80"]
    )
    def test_this_machine_asks_under_its_own_names(self, guarded: TestClient, host: str) -> None:
        assert guarded.get("/api/videos", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.nip.io", "localhost.evil.example", "169.254.169.254", "[", ""]
    )
    def test_a_name_that_was_made_to_mean_this_machine_is_refused(self, guarded: TestClient, host: str) -> None:
        assert_problem(guarded.get("/api/videos", headers={"Host": host}), 403, "forbidden")
        assert guarded.get("/health/live", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "Via"])
    def test_who_comes_through_a_proxy_is_refused(
        self, guarded: TestClient, app: FastAPI, make: Make, name: str
    ) -> None:
        headers = {name: "for=203.0.113.5"}
        refused = assert_problem(guarded.get("/api/videos", headers=headers), 403, "forbidden")
        assert "videomoments keys create" in refused["hint"]
        app.state.keys = Keys()
        assert guarded.get("/api/videos", headers=headers | bearer(make("read"))).status_code == 200

    @pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 404), ("::1", 404), ("192.0.2.1", 403)])
    def test_another_machine_is_refused(self, guarded: TestClient, address: str, status: int) -> None:
        client = TestClient(guarded.app, client=(address, 5000))
        assert client.get("/api/videos/nobody/url").status_code == status

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example", "Content-Type": "text/plain"},
            {"Origin": "null", "Content-Type": "text/plain"},
            {"Origin": "http://127.0.0.1:8080"},
            {"Origin": "http://[x"},
            {"Sec-Fetch-Site": "cross-site", "Content-Type": "multipart/form-data; boundary=x"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_pages_of_other_sites_change_nothing(self, guarded: TestClient, headers: dict[str, str]) -> None:
        for path in ("/api/videos", "/api/videos/upload", "/api/admin/cleanup-temp", "/api/admin/keys"):
            assert_problem(guarded.post(path, content=b'{"name": "x"}', headers=headers), 403, "forbidden")

    def test_its_own_pages_do(self, guarded: TestClient) -> None:
        own = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
        assert guarded.post("/api/admin/cleanup-temp", headers=own).status_code == 200

    def test_no_answer_is_for_pages_elsewhere(self, guarded: TestClient) -> None:
        answer = guarded.get("/api/videos", headers={"Origin": "https://app.example"})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        policy = guarded.get("/objects/a.html").headers["content-security-policy"]
        assert policy == "sandbox; frame-ancestors 'none'", "what others have made runs no scripts here"
        assert answer.headers["cache-control"] == "private, no-cache"


def test_listed_origins_may_ask_and_others_may_not(settings: Settings, make: Make) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": "https://app.example,http://localhost:5173"}))
    client = TestClient(app)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    allowed = client.options("/api/videos", headers={"Origin": "https://app.example", **asked})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in allowed.headers
    refused = client.options("/api/videos", headers={"Origin": "https://evil.example", **asked})
    assert refused.status_code == 400 and "access-control-allow-origin" not in refused.headers
    posted = client.post("/api/admin/keys", json={"name": ""}, headers={"Origin": "http://localhost:5173"})
    assert posted.status_code == 422 and posted.headers["access-control-allow-origin"] == "http://localhost:5173"
    make("read")
    app.state.keys = Keys()
    unknown = client.get("/api/videos", headers={"Origin": "https://app.example"})
    assert unknown.status_code == 401 and unknown.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("origins", ["*", "app.example", "https://app.example/path", "https://*.example"])
def test_an_origin_is_named_whole(origins: str, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOMOMENTS_CORS_ORIGINS", origins)
    with pytest.raises(ValueError, match="CORS_ORIGINS"):
        Settings()  # pyright: ignore[reportCallIssue]


def test_the_address_of_the_command_line_counts_too(settings: Settings) -> None:
    """`python -m api --host` is as bound to it as BACKEND_HOST."""
    environment = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "VIDEOMOMENTS_HOME": str(settings.home),
    }
    command = [sys.executable, "-m", "api", "--host", "0.0.0.0", "--port", "0"]  # noqa: S104
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "has no keys" in ended.stderr and "videomoments keys create" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_with_a_key_it_may_listen_for_others_and_never_without(
    settings: Settings, make: Make, services: Services
) -> None:
    public = settings.model_copy(update={"backend_host": "0.0.0.0"})  # noqa: S104
    with pytest.raises(InvalidConfig, match="has no keys"):
        create_app(public)
    key = make("read")
    with TestClient(create_app(public)) as client:
        assert_problem(client.get("/api/videos", headers={"Host": "127.0.0.1"}), 401, "unauthorized")
        assert client.get("/api/videos", headers={"Host": "moments.example", **bearer(key)}).status_code == 200
    with services.database.session() as session:
        session.execute(delete(ApiKey))
    assert_problem(TestClient(client.app).get("/api/videos", headers={"Host": "127.0.0.1"}), 401, "unauthorized")
