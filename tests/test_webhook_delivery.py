"""One attempt to tell a webhook: what goes out, verified by an independent library, and what comes of each answer."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tests.web import Web, serving, swallowing
from videomoments_dagster import webhooks
from videomoments_dagster.errors import AddressRefused, InvalidInput
from videomoments_dagster.settings import Settings
from videomoments_dagster.webhooks import BACKOFF_SECONDS, Outcome, Webhook, attempt, next_pause_seconds

CONTENT = webhooks.payload("completed", datetime(2026, 1, 1, tzinfo=UTC), {"video_id": "talk", "error": "Ärger 💥"})
SECRET = "not to be seen anywhere"
KEY = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.model_validate({"VIDEOMOMENTS_HOME": home, "VIDEOMOMENTS_ALLOW_PRIVATE_URLS": True})


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def _answer(status: int, **headers: str) -> Any:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["Content-Length"]))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def _tell(web: Web, settings: Settings, answer: Any, secret: str | None = None) -> Outcome:
    web.answers["/hook"] = answer
    return attempt(Webhook(f"{web.url}/hook", secret), "msg_1", CONTENT, settings)


@pytest.mark.parametrize(("secret", "key"), [(SECRET, SECRET.encode()), (KEY, KEY), (None, None)])
def test_what_is_told_is_signed_as_others_verify_it(
    web: Web, settings: Settings, secret: str | None, key: bytes | str | None
) -> None:
    heard: list[tuple[dict[str, str], bytes]] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        heard.append((dict(request.headers), body))
        request.send_response(204)
        request.end_headers()

    assert _tell(web, settings, answer, secret) == Outcome(True, 204)
    [(headers, body)] = heard
    assert json.loads(body) == CONTENT
    assert headers["Content-Type"] == "application/json"
    assert headers["Webhook-Id"] == "msg_1"
    assert abs(int(headers["Webhook-Timestamp"]) - time.time()) < 5
    if key is None or secret is None:
        assert "Webhook-Signature" not in headers
        return
    assert Verifier(key).verify(body, headers) == CONTENT
    for wrong in ({**headers, "Webhook-Id": "msg_2"}, {**headers, "Webhook-Timestamp": str(int(time.time()) + 1)}):
        with pytest.raises(WebhookVerificationError):
            Verifier(key).verify(body, wrong)
    assert secret not in str(headers)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (_answer(200), Outcome(True, 200)),
        (_answer(404), Outcome(False, 404, "http://HOST answers 404.")),
        (_answer(500, Retry_After="60"), Outcome(False, 500, "http://HOST answers 500.")),
        (_answer(503, Retry_After="60"), Outcome(False, 503, "http://HOST answers 503.", pause_seconds=60)),
        (_answer(429, Retry_After="soon"), Outcome(False, 429, "http://HOST answers 429.")),
        (_answer(410), Outcome(False, 410, "http://HOST answers 410.", is_final=True)),
        (
            _answer(302, Location="http://169.254.169.254/"),
            Outcome(False, 302, "http://HOST answers 302: redirects are not followed."),
        ),
    ],
)
def test_every_answer_has_its_outcome(web: Web, settings: Settings, answer: Any, outcome: Outcome) -> None:
    told = _tell(web, settings, answer)
    host = web.url.removeprefix("http://")
    assert told == Outcome(
        outcome.is_delivered, outcome.status, outcome.error and outcome.error.replace("HOST", host), outcome.is_final,
        outcome.pause_seconds,
    )  # fmt: skip
    assert web.hits == {"/hook": 1}


def test_a_receiver_that_is_not_there_or_never_ends_its_answer_is_left_in_time(
    web: Web, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = socket.create_server(("127.0.0.1", 0))
    port = gone.getsockname()[1]
    gone.close()
    refused = attempt(Webhook(f"http://127.0.0.1:{port}/hook?token=t", None), "msg_1", CONTENT, settings)
    assert (refused.is_delivered, refused.is_final, refused.status) == (False, False, None)
    assert refused.error and "token" not in refused.error
    monkeypatch.setattr(webhooks, "ATTEMPT_SECONDS", 0.4)
    ended = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        with suppress(OSError):
            while not ended.wait(0.1):
                request.wfile.write(b"x")

    began = time.monotonic()
    slow = _tell(web, settings, drip)
    with swallowing() as hole:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", hole)] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        never = _tell(web, settings, drip)
    ended.set()
    assert (slow.is_delivered, slow.is_final) == (never.is_delivered, never.is_final) == (False, False)
    assert time.monotonic() - began < 4


def test_the_address_is_judged_at_delivery_too(home: Path) -> None:
    strict = Settings.model_validate({"VIDEOMOMENTS_HOME": home})
    for url in ("http://127.0.0.1/hook", "https://localhost/hook", "http://[::ffff:10.0.0.1]/", "https://a.com:8443/"):
        told = attempt(Webhook(url, None), "msg_1", CONTENT, strict)
        assert told.is_final and told.error and told.error.startswith("address_refused")
        with pytest.raises(AddressRefused):
            Webhook.parse(url, None, strict)


@pytest.mark.parametrize("secret", ["short", "x" * 257, "whsec_not base64 at all", "whsec_" + "A" * 12, "line\n" * 5])
def test_a_secret_that_can_not_be_used_is_refused_and_not_repeated(settings: Settings, secret: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Webhook.parse("https://example.org/hook", secret, settings)
    assert secret not in str(caught.value) + caught.value.hint


def test_a_secret_needs_a_url_and_is_not_shown(settings: Settings) -> None:
    assert Webhook.parse(None, None, settings) is None
    with pytest.raises(InvalidInput):
        Webhook.parse(None, SECRET, settings)
    webhook = Webhook.parse("https://example.org/hook", SECRET, settings)
    assert webhook and webhook.secret == SECRET
    assert SECRET not in repr(webhook)


def test_it_is_told_again_for_about_a_day_and_no_sooner_than_asked() -> None:
    failed = Outcome(False, 500, "no")
    pauses: list[float] = []
    while (pause := next_pause_seconds(len(pauses) + 1, failed)) is not None:
        pauses.append(pause)
    assert len(pauses) == len(BACKOFF_SECONDS) == 10
    assert all(0.8 * own <= pause <= 1.2 * own for own, pause in zip(BACKOFF_SECONDS, pauses, strict=True))
    assert 23 * 3600 < sum(BACKOFF_SECONDS) < 25 * 3600
    assert next_pause_seconds(1, Outcome(False, 503, "no", pause_seconds=100)) == 100
    assert next_pause_seconds(1, Outcome(False, 503, "no", pause_seconds=10**9)) == 3600
    assert next_pause_seconds(1, Outcome(True, 200)) is None
    assert next_pause_seconds(1, Outcome(False, 410, "gone", is_final=True)) is None


def test_a_date_in_retry_after_is_read(web: Web, settings: Settings) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    assert 290 < _tell(web, settings, _answer(503, Retry_After=later)).pause_seconds <= 300
