"""How much a body may hold and how long it may take: read here, before anything looks at it, unless it is a file."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem, problem_of
from videomoments_dagster.errors import TooLarge

BODY_BYTES = 1024 * 1024
BODY_SECONDS = 30.0
"""The server that runs this knows no limit of its own; whoever sends a byte now and then would keep a connection."""
_FILES = re.compile(r"/api/(videos/upload|uploads(/.*)?)", re.DOTALL)
"""Routes that take a file write it to disk as it comes, and have limits of their own."""
_BODY = {b"content-length", b"transfer-encoding"}
_JSON = re.compile(r"application/(json|[\w.+-]+\+json)\s*(;|$)", re.IGNORECASE)


class BodyLimits:
    """ASGI middleware: refuses with 408, 413 or 415, or hands the whole body on."""

    def __init__(self, app: ASGIApp, seconds: float = BODY_SECONDS) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _FILES.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        if _over_http_1(scope) and not any(name in _BODY for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length")
        if length == "0":
            await self._app(scope, receive, send)
            return
        too_large = TooLarge(f"The body is larger than {BODY_BYTES} bytes.")
        if length is not None and length.isdecimal() and int(length) > BODY_BYTES:
            await without_body(problem_of(too_large), scope)(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await _read(receive)
        except TimeoutError:
            detail = f"The body did not arrive within {self._seconds:.0f} s."
            answer = problem(
                408, "request_timeout", "The body came too slowly", detail, headers={"Connection": "close"}
            )
            await answer(scope, receive, send)
            return
        except ClientDisconnect:
            return
        if body is None:
            await without_body(problem_of(too_large), scope)(scope, receive, send)
            return
        if body and not _JSON.match(headers.get("content-type", "")):
            detail = f"{scope['method']} {scope['path'][:200]} reads JSON."
            hint = "Send `Content-Type: application/json`."
            answer = problem(415, "unsupported_media_type", "Not a media type that is read here", detail, hint=hint)
            await answer(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)


def without_body(answer: Response, scope: Scope) -> Response:
    """`answer`, after which the server must not go on reading a large body only to throw it away."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or (length.isdecimal() and int(length) > BODY_BYTES):
        answer.headers["Connection"] = "close"
    return answer


def _over_http_1(scope: Scope) -> bool:
    return scope.get("http_version", "1.1").startswith("1")


async def _read(receive: Receive) -> bytes | None:
    """The body; None when it is too large. Raises ClientDisconnect."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
