"""Conditional requests (RFC 9110): an ETag on every JSON answer under /api and 304 for who has it, HEAD wherever there
is GET; and If-Match, for changes that must not overwrite somebody else's."""

import re
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Header
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videomoments_dagster.errors import PreconditionFailed

COMPRESSION_LEVEL = 5
COMPRESSED_FROM_BYTES = 1024
_VARY = (b"vary", b"Accept-Encoding")
_JSON = (b"content-type", b"application/json")
_HASH_DIGITS = 32
_TAG = re.compile(r'(?:W/)?"([^"]*)"')

IfMatch = Annotated[
    str | None,
    Header(
        max_length=2000,
        description="The `ETag` it was read with: 412 when it was changed since. Without it, the last one wins",
    ),
]


class Conditional:
    """ASGI middleware. Hashes what a GET answers in one piece as JSON; streams, files and redirects pass through.

    The tags are weak: the same JSON has the same tag, compressed or not. An answer that says its version in an ETag of
    its own has it in front of the hash, so that `require_match` knows it again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
        elif scope["method"] != "HEAD":
            await self._tagged(scope, receive, send)
        elif not await self._head(scope, receive, send):
            scope["method"] = "GET"  # in place: what the router finds is for the access log, too
            try:
                await self._tagged(scope, receive, _without_body(send))
            finally:
                scope["method"] = "HEAD"

    async def _tagged(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = scope["method"] == "GET"
        asked = b",".join(value for name, value in scope["headers"] if name == b"if-none-match") if is_read else b""
        known = asked.decode("latin-1")
        start: Message | None = None

        async def send_tagged(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_tagged(message, is_read):
                start = message  # held until the body says what the tag is
                return
            if start is not None and message["type"] == "http.response.body":
                begun, start = start, None
                if not message.get("more_body"):
                    message = _tag(begun, message, known)
                await send(begun)
            await send(message)

        await self._app(scope, receive, send_tagged)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the route answers HEAD itself; if it says that it has GET alone, nothing is sent."""
        refused = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == 405:
                refused = "GET" in Headers(raw=message["headers"]).get("allow", "")
            if not refused:
                await send(message)

        await self._app(scope, receive, send_unless_refused)
        return not refused


class Compressed:
    """ASGI middleware: gzip for who takes it. Stored objects are sent as they are, for their ranges and lengths."""

    def __init__(self, app: ASGIApp) -> None:
        self._plain = app
        self._gzip = GZipMiddleware(app, minimum_size=COMPRESSED_FROM_BYTES, compresslevel=COMPRESSION_LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/objects/"):
            await self._plain(scope, receive, send)
        else:
            takes_it = any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"])
            await (self._gzip if takes_it else self._plain)(scope, receive, _varied(send))


def describe(operation: dict[str, Any], method: str, path: str) -> None:
    """Say in the OpenAPI what `Conditional` does to the operation."""
    answer = operation["responses"].get("200", {})
    if method != "GET" or not path.startswith("/api/") or "application/json" not in answer.get("content", {}):
        return
    answer.setdefault("headers", {})["ETag"] = {"description": "Of this answer", "schema": {"type": "string"}}
    operation["responses"]["304"] = {"description": "`If-None-Match` names what is there"}
    about = "The `ETag` of the answer that is known: 304 without a body while it is the same"
    known = {"name": "if-none-match", "in": "header", "description": about, "schema": {"type": "string"}}
    operation.setdefault("parameters", []).append(known)


def version_tag(identifier: str, updated_at: datetime) -> str:
    """The ETag of a row as it is now. What is shown with it, such as signed URLs, changes without changing it."""
    return f'W/"{_hash(f"{identifier} {updated_at.timestamp():.6f}".encode())}"'


def require_match(if_match: str | None, tag: str) -> None:
    """Raises PreconditionFailed when the client read another version than `tag` names. Compared by version alone, and
    weakly: all our tags are weak, and each change of the row makes another."""
    if if_match is None or if_match.strip() == "*":
        return
    if _opaque(tag) not in {each.partition(".")[0] for each in _TAG.findall(if_match)}:
        raise PreconditionFailed(
            "It was changed since it was read with this ETag.", hint="Read it again, and repeat the change on that."
        )


def _without_body(send: Send) -> Send:
    async def send_headers(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_headers


def _varied(send: Send) -> Send:
    """Caches are told that others are answered otherwise."""

    async def send_varied(message: Message) -> None:
        if message["type"] == "http.response.start" and not any(name == b"vary" for name, _ in message["headers"]):
            message["headers"] = [*message["headers"], _VARY]
        await send(message)

    return send_varied


def _is_tagged(start: Message, is_read: bool) -> bool:
    if _JSON not in start["headers"]:
        return False
    return start["status"] == 200 if is_read else "etag" in Headers(raw=start["headers"])


def _tag(start: Message, body: Message, known: str) -> Message:
    """Completes the headers of `start`; returns the body to send, which is none when it is `known`."""
    headers = MutableHeaders(raw=start["headers"])
    tag = _hash(body.get("body", b""))
    if version := headers.get("etag"):
        tag = f"{_opaque(version)}.{tag}"
    headers["ETag"] = f'W/"{tag}"'
    headers.setdefault("Cache-Control", "private, no-cache")
    if not (known.strip() == "*" or tag in _TAG.findall(known)):
        return body
    start["status"] = 304
    for name in ("content-length", "content-type"):
        del headers[name]
    return {**body, "body": b""}


def _hash(content: bytes) -> str:
    return sha256(content, usedforsecurity=False).hexdigest()[:_HASH_DIGITS]


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/").strip('"')
