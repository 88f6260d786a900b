"""Every HTTP request seen from outside: its id, its time in the metrics, its line in the log when it changed something,
failed or was slow; and no traceback to whoever asked."""

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import GRANT
from api.problems import defect
from videomoments_dagster import logs

HEADER = "X-Request-ID"
_RAW_HEADER = HEADER.lower().encode()
_VALID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_READING = {"GET", "HEAD", "OPTIONS"}
_SLOW_SECONDS = 1.0
"""What is read, and answered well within this, is counted and not logged: a line takes a tenth of the time that the
answer took, and nobody reads thousands a second."""
_STREAMS = {"/api/pipeline/{video}/events"}
"""As long as their clients stay: no time of an answer."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_log = logging.getLogger("videomoments.access")


class HttpMetrics:
    """Counts of this process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "videomoments_http_requests",
            "HTTP requests answered by this process.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "videomoments_http_request_seconds",
            "Seconds from an HTTP request to the end of its answer; without the streams of events.",
            ("method", "route"),
            registry=self.registry,
            buckets=_SECONDS,
        )

        self._of: dict[tuple[str, str, int], tuple[Counter, Histogram | None]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        found = self._of.get((method, route, status))  # finding them by their labels takes longer than counting
        if found is None:
            timed = None if route in _STREAMS else self._seconds.labels(method, route)
            found = self._of[method, route, status] = self._requests.labels(method, route, status), timed
        requests, timed = found
        requests.inc()
        if timed is not None:
            timed.observe(seconds)


class Observed:
    """ASGI middleware. Takes the client's X-Request-ID when it is 1 to 64 of `[A-Za-z0-9._-]`, else makes one; answers
    with it. What no handler expected is logged here and answered as a problem."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app, self._metrics, self._clock = app, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _VALID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_RAW_HEADER, request_id.encode())]
            await send(message)

        began = self._clock()
        with logs.bound(http_request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                _log.exception("%s %s is broken.", scope["method"], _route(scope))
                if status:  # the answer has begun: all that is left is to break the connection
                    raise
                await defect()(scope, receive, send_with_id)
            finally:
                self._observe(scope, status, self._clock() - began)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        """`status` 0: the client went away before an answer."""
        method, route = scope["method"] if scope["method"] in _METHODS else "other", _route(scope)
        self._metrics.observe(method, route, status, seconds)
        if method in _READING and 0 < status < 400 and (seconds < _SLOW_SECONDS or route in _STREAMS):
            return
        about = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        if grant := scope.get(GRANT):
            about["api_key"] = grant.identifier
        _log.info("%s %s %d", method, route, status, extra=about)


def _route(scope: Scope) -> str:
    """The template of the route's path: paths are without number, and may hold what their owners keep to themselves."""
    route: Any = scope.get("route")
    return getattr(route, "path", None) or "unknown"
