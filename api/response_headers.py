"""Headers that every answer has: what browsers and caches must not do with it, and what is left of the key's limit."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUOTA = "videomoments.quota"
"""Where in the scope it stands what is left to the key that asks."""
_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_PRIVATE = (b"cache-control", b"private, no-cache")
"""Answers hold signed URLs, and differ by key: no cache between may keep them, and a browser asks whether they still
hold. Routes may say otherwise."""
_FILES = ("/docs", "/objects/")


class ResponseHeaders:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *_ALWAYS]
                if not scope["path"].startswith(_FILES) and not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_PRIVATE)
                if quota := scope.get(QUOTA):
                    headers += quota.headers()
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_headers)
