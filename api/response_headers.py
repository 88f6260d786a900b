"""Headers that every answer has: what browsers and caches must not do with it, and what is left of the key's limit."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUOTA = "videomoments.quota"
"""Where in the scope it stands what is left to the key that asks."""
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_POLICY = (b"content-security-policy", b"frame-ancestors 'none'")
_OBJECT_POLICY = (b"content-security-policy", b"sandbox; frame-ancestors 'none'")
"""Objects are what others have made, under the API's own origin."""
_PRIVATE = (b"cache-control", b"private, no-cache")
"""Answers hold signed URLs, and differ by key: no cache between may keep them, and a browser asks whether they still
hold. Routes may say otherwise."""
_OBJECTS = "/objects/"
_FILES = ("/docs", _OBJECTS)


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
                policy = _OBJECT_POLICY if scope["path"].startswith(_OBJECTS) else _POLICY
                headers = [*message.get("headers", ()), *_ALWAYS, policy]
                if not scope["path"].startswith(_FILES) and not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_PRIVATE)
                if quota := scope.get(QUOTA):
                    headers += quota.headers()
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_headers)
