"""Telling a receiver that a request has ended: what it is told, signed by the Standard Webhooks specification, and one
attempt to tell it, through the address guard. When there is another attempt is decided here, too; rows are not here.
"""

import base64
import binascii
import hashlib
import hmac
import json
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from videomoments_dagster.address_guard import GuardedSession, validate_url
from videomoments_dagster.errors import AddressRefused, InvalidInput, VideoMomentsError
from videomoments_dagster.settings import Settings

ATTEMPT_SECONDS = 10.0
BACKOFF_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
"""Pauses after the first, second, ... failed attempt, a fifth more or less: eleven attempts in about 24 hours."""
MOST_ATTEMPTS = len(BACKOFF_SECONDS) + 1
LONGEST_ASKED_SECONDS = 3600.0
"""Of the pause a receiver may ask for with Retry-After."""
SECRET_CHARACTERS = (16, 256)
_CONNECT_SECONDS = 5.0
_KEY_PREFIX = "whsec_"
_GONE, _ASKS_FOR_PAUSE = 410, {429, 503}


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a request's end is told, and the secret that what is told is signed with."""

    url: str
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str | None, secret: str | None, settings: Settings) -> Self | None:
        """None when there is no URL. Raises AddressRefused, and InvalidInput for a secret that can't be used; messages
        never repeat it."""
        if not url:
            if secret:
                raise InvalidInput("webhook_secret is given without a webhook_url.", hint="Leave it out, or say where.")
            return None
        if secret is not None:
            shortest, longest = SECRET_CHARACTERS
            if not shortest <= len(secret) <= longest or not secret.isprintable():
                raise InvalidInput(f"webhook_secret is not {shortest} to {longest} printable characters.")
            _key(secret)
        return cls(_allowed(url, settings), secret)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one attempt. `status`: what the receiver answered, if it did. `is_final`: no other attempt will do better;
    `pause_seconds` is how long the receiver asks to be left alone."""

    is_delivered: bool
    status: int | None = None
    error: str | None = None
    is_final: bool = False
    pause_seconds: float = 0.0


def payload(event: str, happened_at: datetime, data: dict[str, Any]) -> dict[str, Any]:
    """The body as a dict: `type` is `pipeline.completed`, `pipeline.failed` or `pipeline.cancelled`."""
    return {"type": f"pipeline.{event}", "timestamp": happened_at.astimezone(UTC).isoformat(), "data": data}


def signature(secret: str, identifier: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`. A secret that begins with `whsec_` is a key in base64; another one is the key
    itself, in UTF-8."""
    signed = f"{identifier}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def receiver(url: str) -> str:
    """Scheme and host of a webhook's URL: its path and query may be all that keeps strangers out."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def attempt(webhook: Webhook, identifier: str, content: dict[str, Any], settings: Settings) -> Outcome:
    """POST `content` once, in at most ATTEMPT_SECONDS. Never raises for what the receiver or its network does."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"VideoMoments/{version('videomoments')}",
        "Webhook-Id": identifier,
        "Webhook-Timestamp": str(timestamp),
    }
    try:
        if webhook.secret:
            headers["Webhook-Signature"] = signature(webhook.secret, identifier, timestamp, body)
        return _posted(_allowed(webhook.url, settings), body, headers, settings)
    except AddressRefused as error:
        return Outcome(False, error=f"{error.code}: {error.message}", is_final=True)
    except VideoMomentsError as error:
        return Outcome(False, error=f"{error.code}: {error.message}")
    except (requests.RequestException, OSError, ValueError) as error:
        return Outcome(False, error=f"{receiver(webhook.url)} does not answer ({type(error).__name__}).")


def next_pause_seconds(attempts: int, outcome: Outcome) -> float | None:
    """How long to wait after `attempts` (1 is the first) of which the last ended as `outcome`; None: that was all."""
    if outcome.is_delivered or outcome.is_final or attempts >= MOST_ATTEMPTS:
        return None
    own = BACKOFF_SECONDS[attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311  # many must not come back at once
    return max(own, min(outcome.pause_seconds, LONGEST_ASKED_SECONDS))


def _posted(url: str, body: bytes, headers: dict[str, str], settings: Settings) -> Outcome:
    """The answer's body is not read. The timer ends what sends a byte now and then, too: what came of its headers until
    then looks like an answer."""
    is_overdue = threading.Event()
    with GuardedSession(allow_private=settings.allow_private_urls, ports=settings.fetch_ports) as session:

        def end() -> None:
            is_overdue.set()
            session.abort()

        timer = threading.Timer(ATTEMPT_SECONDS, end)
        timer.start()
        try:
            answer = session.post(
                url,
                data=body,
                headers=headers,
                timeout=(_CONNECT_SECONDS, ATTEMPT_SECONDS),
                allow_redirects=False,
                stream=True,
            )
            answer.close()
        finally:
            timer.cancel()
    if is_overdue.is_set():
        raise requests.Timeout
    status = answer.status_code
    if 200 <= status < 300:
        return Outcome(True, status)
    where = receiver(url)
    if 300 <= status < 400:
        return Outcome(False, status, f"{where} answers {status}: redirects are not followed.")
    pause = _asked_seconds(answer.headers.get("Retry-After")) if status in _ASKS_FOR_PAUSE else 0.0
    return Outcome(False, status, f"{where} answers {status}.", is_final=status == _GONE, pause_seconds=pause)


def _allowed(url: str, settings: Settings) -> str:
    return validate_url(url, allow_private=settings.allow_private_urls, ports=settings.fetch_ports)


def _asked_seconds(retry_after: str | None) -> float:
    try:
        return float(Retry().parse_retry_after(retry_after)) if retry_after else 0.0
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _key(secret: str) -> bytes:
    if not secret.startswith(_KEY_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SECRET_CHARACTERS[0]:
        raise InvalidInput(
            f"webhook_secret begins with {_KEY_PREFIX}, but no key of {SECRET_CHARACTERS[0]} bytes or more in base64"
            " follows.",
            hint="Use the secret as it was given to you, or one without that prefix.",
        )
    return key
