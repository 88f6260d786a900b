"""Who may ask: every route needs an API key unless it is public, as soon as a key was ever made or the API listens
beyond this machine. Without keys, only programs of this machine ask: not web pages in its browser.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.body_limits import BodyLimits, without_body
from api.keys import Grant, Keys
from api.problems import problem_of
from api.rate_limits import FailedKeys, RateLimits
from api.response_headers import QUOTA, ResponseHeaders
from api.services import Services
from videomoments_dagster import api_keys
from videomoments_dagster.errors import Forbidden, InvalidConfig, RateLimited, Unauthorized, VideoMomentsError
from videomoments_dagster.settings import Settings

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PUBLIC = re.compile(r"/|/docs(/.*)?|/openapi\.json|/health|/health/live|/objects/.+", re.DOTALL)
"""The one list of what is answered without a key, to GET and HEAD. Objects have URLs that are signed instead."""
_PUBLIC_OPTIONS = re.compile(r"/api/uploads(/[^/]+)?")
"""What an upload server can do is asked before anything is sent, and by protocol without credentials."""
_PROXIED = {b"forwarded", b"x-forwarded-for", b"via"}
_ADMIN = "/api/admin"
_UPLOADS = "/api/uploads"
"""An upload is of those who may send to it: they are told how far it is, and a complete one is submitted then."""
_METRICS = "/metrics"
"""Tells even when PostgreSQL is away, which is when it matters: to whoever was known before."""
GRANT = "videomoments.grant"
"""Where in the scope it stands who asks."""
_CORS_REQUEST_HEADERS = [
    "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Prefer",
    "Range", "X-Request-ID", "Tus-Resumable", "Upload-Checksum", "Upload-Length", "Upload-Metadata",
    "Upload-Offset", "X-HTTP-Method-Override",
]  # fmt: skip
_CORS_ANSWER_HEADERS = [
    "Content-Disposition", "Content-Location", "Content-Range", "ETag", "Link", "Location", "RateLimit",
    "RateLimit-Policy", "Retry-After", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable",
    "Tus-Version", "Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset",
    "VideoMoments-Request-Id", "VideoMoments-Video-Id", "X-Request-ID",
]  # fmt: skip


def needed_scope(method: str, path: str) -> api_keys.Scope | None:
    """The scope that a request needs; None when it is public. `path` may be a route's template."""
    if method in {"GET", "HEAD"} and _PUBLIC.fullmatch(path):
        return None
    if method == "OPTIONS" and _PUBLIC_OPTIONS.fullmatch(path):
        return None
    if path == _ADMIN or path.startswith(f"{_ADMIN}/"):
        return "admin"
    return "read" if method in _READING and not path.startswith(f"{_UPLOADS}/") else "write"


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, means this machine and nothing else."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_public_address(services: Services) -> None:
    """Without any key, only this machine may ask. Raises InvalidConfig, or ServiceUnavailable when PostgreSQL can't
    say whether there is one."""
    host = services.settings.backend_host
    if not is_loopback(host) and not Keys.any_ever(services):
        raise InvalidConfig(
            f"BACKEND_HOST is {host}, but the API has no keys and must not be reached from other machines.",
            hint="Start it with BACKEND_HOST=127.0.0.1, and make one: `videomoments keys create NAME --scope admin`.",
        )


def install(app: FastAPI, settings: Settings) -> None:
    """Add what stands between the server and the routes; what is added to `app` later stands before it."""
    app.state.keys, app.state.limits, app.state.failed_keys = Keys(), RateLimits(), FailedKeys()
    app.add_middleware(BodyLimits)
    app.add_middleware(Access, settings=settings)
    if origins := settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_ANSWER_HEADERS,
        )
    app.add_middleware(ResponseHeaders)


class Access:
    """ASGI middleware: refuses with 401, 403, 429 or 503, or passes on. What is not HTTP is refused unless open."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._rate_limit = settings.rate_limit
        self._local = is_loopback(settings.backend_host)
        own = {settings.backend_host, urlsplit(settings.configured_public_url or "").hostname}
        self._hosts = {host for host in own if host}
        self._origins = set(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._check(scope)
            except VideoMomentsError as error:
                await without_body(problem_of(error), scope)(scope, receive, send)
                return
        elif scope["type"] != "lifespan":  # no route of ours is anything else
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        method, path = scope["method"], scope["path"]
        needed = needed_scope(method, path)
        if needed is None:
            return
        state: Any = scope["app"].state
        headers = Headers(scope=scope)
        if self._local and not await state.keys.configured(state.services, stale=path == _METRICS):
            _refuse_others(scope)
            self._refuse_web_pages(method, headers)
            return
        grant: Grant = await _grant(state, headers, scope)
        scope[GRANT] = grant
        if self._rate_limit and grant.identifier != api_keys.OPERATOR:
            await self._count(state, grant, scope)
        if not api_keys.includes(grant.scope, needed):
            raise Forbidden(
                f"The key may {grant.scope}; {method} {path[:200]} needs the scope {needed}.",
                hint=f"`videomoments keys create NAME --scope {needed}` makes one that may.",
            )

    async def _count(self, state: Any, grant: Grant, scope: Scope) -> None:
        limits: RateLimits = state.limits
        try:
            scope[QUOTA] = await limits.take(state.services, grant.identifier, self._rate_limit)
        except RateLimited:
            scope[QUOTA] = limits.state(grant.identifier, self._rate_limit)
            raise

    def _refuse_web_pages(self, method: str, headers: Headers) -> None:
        """A page of another site can have its visitor's browser ask this machine: under a name that it has made to mean
        127.0.0.1 (DNS rebinding), or blindly, by a form. Neither has a way to hide where it comes from."""
        host = _hostname(headers.get("host", ""))
        if host not in self._hosts and not is_loopback(host):
            raise Forbidden(
                f"The API is not known as {host[:200]!r}.",
                hint="Ask it as 127.0.0.1 or localhost, set VIDEOMOMENTS_PUBLIC_URL, or make an API key.",
            )
        if method in _READING:
            return
        origin = headers.get("origin")
        if origin in self._origins:
            return
        elsewhere = origin is not None and _netloc(origin) != headers.get("host", "").lower()
        if elsewhere or headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
            raise Forbidden(
                "Pages of other sites may not change anything here.",
                hint="List the page's origin in VIDEOMOMENTS_CORS_ORIGINS.",
            )


def _refuse_others(scope: Scope) -> None:
    """A proxy on this machine asks from this machine, whomever it asks for; most say that they do."""
    is_elsewhere = _is_elsewhere(scope["client"][0] if scope.get("client") else "")
    if is_elsewhere or any(name in _PROXIED for name, _ in scope["headers"]):
        raise Forbidden(
            "Without API keys, only programs of this machine may ask, and not through a proxy.",
            hint="Make a key: `videomoments keys create NAME --scope admin`.",
        )


async def _grant(state: Any, headers: Headers, scope: Scope) -> Grant:
    keys: Keys = state.keys
    failed: FailedKeys = state.failed_keys
    kind, _, key = headers.get("authorization", "").partition(" ")
    key = key.strip()
    if kind.lower() != "bearer" or not key:
        raise Unauthorized("This API answers only to those who have a key.")
    if grant := keys.remembered(key):
        return grant
    address = scope["client"][0] if scope.get("client") else ""
    if not keys.was_good_lately(key):  # else others of a shared address would shut out who has a good one
        failed.check(address)
    grant = await keys.find(state.services, key, stale=scope["path"] == _METRICS)
    if grant is None:
        failed.note(address)
        raise Unauthorized("The API key is not known here, or has expired, or was revoked.")
    return grant


@lru_cache(maxsize=1024)
def _is_elsewhere(address: str) -> bool:
    """False for what is no address of a network, such as a Unix socket's."""
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _netloc(origin: str) -> str | None:
    """Host and port of a page's origin; None when it has none, or can't be read."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
