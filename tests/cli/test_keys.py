"""`videomoments keys`: a key is shown once, and the commands send the one they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.web import Web, serving
from videomoments_dagster.api_keys import hash_of
from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.keys import app
from videomoments_dagster.errors import InvalidInput, NotFound
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.home import Home


@pytest.fixture
def heard(web: Web) -> list[str | None]:
    """The Authorization headers of what is asked at `/api/videos`."""
    headers: list[str | None] = []

    def answer(request: Any) -> None:
        headers.append(request.headers["Authorization"])
        request.send_response(200)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"{}")

    web.answers["/api/videos"] = answer
    return headers


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def set_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_key_is_made_without_any_shown_once_and_revoked(
    home: Path, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, DATABASE_URL=fresh_database_url)
    made = keys("create", "dashboard")
    assert made.exit_code == 0
    assert re.fullmatch(r"vm_[\w-]{43}\n", made.stdout), "it can go straight into a variable or a file"
    assert "It is the first" in made.stderr and made.stdout.strip() not in made.stderr
    other = json.loads(keys("create", "ci", "--scope", "write", "--expires-days", "90", "--json").stdout)
    assert other["scope"] == "write" and other["expires_at"] and other["key"] != made.stdout.strip()

    listed = json.loads(keys("list", "--json").stdout)
    assert [each["name"] for each in listed] == ["ci", "dashboard"]
    shown = keys("list").stdout
    for key in (made.stdout.strip(), other["key"]):
        assert key not in str(listed) + shown and hash_of(key) not in str(listed) + shown
    for _ in range(2):
        assert keys("revoke", other["identifier"]).exit_code == 0
    again = json.loads(keys("list", "--json").stdout)
    assert again[0]["revoked_at"] and not again[1]["revoked_at"]
    assert "revoked" in keys("list").stdout
    assert isinstance(keys("revoke", "nobody").exception, NotFound)


@pytest.mark.parametrize("arguments", [("x", "--scope", "root"), ("x", "--expires-days", "0"), (" ",), ("x" * 101,)])
def test_what_can_be_no_key_is_refused(home: Path, arguments: tuple[str, ...]) -> None:
    refused = keys("create", *arguments)
    assert refused.exit_code == 2 or isinstance(refused.exception, InvalidInput)


def test_the_configured_key_is_sent_and_nothing_else(
    home: Path, web: Web, heard: list[str | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    set_environment(monkeypatch, NETRC=str(netrc), VIDEOMOMENTS_PUBLIC_URL=web.url)
    Api().get("/api/videos")
    set_environment(monkeypatch, VIDEOMOMENTS_API_KEY=" vm_mine\n")
    Api().get("/api/videos")
    assert heard == [None, "Bearer vm_mine"]
    assert "vm_mine" not in repr(get_settings())


def test_the_operators_key_is_sent_to_the_platform_of_its_home_alone(
    home: Path, web: Web, heard: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    Api(web.url).get("/api/videos")
    assert not (home / "api.key").exists()
    (home / "connections.json").write_text(json.dumps({"api_url": web.url}))
    Api().get("/api/videos")
    assert not (home / "api.key").exists(), "its supervisor is dead: who listens there now?"
    with Home(home).acquire():
        Api().get("/api/videos")
    key = (home / "api.key").read_text()
    assert (home / "api.key").stat().st_mode & 0o777 == 0o600
    with Home(home).acquire():
        Api(web.url.replace("127.0.0.1", "localhost")).get("/api/videos")
    set_environment(monkeypatch, VIDEOMOMENTS_API_KEY="vm_mine")
    Api().get("/api/videos")
    assert heard == [None, None, f"Bearer {key}", None, "Bearer vm_mine"]


def test_a_redirect_to_another_host_does_not_get_the_key(
    home: Path, web: Web, heard: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = web.url.replace("127.0.0.1", "localhost") + "/api/videos"

    def away(request: Any) -> None:
        request.send_response(302)
        request.send_header("Location", elsewhere)
        request.send_header("Content-Length", "0")
        request.end_headers()

    web.answers["/away"] = away
    set_environment(monkeypatch, VIDEOMOMENTS_PUBLIC_URL=web.url, VIDEOMOMENTS_API_KEY="vm_mine")
    Api().get("/away")
    assert heard == [None]
