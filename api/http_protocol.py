"""uvicorn's HTTP with bounds that it lacks: how large a request's head may be, and how long it may take to come. It is
read before anybody can know who asks, and kept in memory meanwhile."""

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.problems import problem

HEAD_BYTES = 64 * 1024
"""Of the request line and all headers; proxies allow 8 to 32 kB."""


class BoundedHeads(HttpToolsProtocol):
    """Answers 431 or 408 and closes. What comes of a head in one piece with the end of the request before it is not
    counted: that is one read of the socket."""

    head_seconds = 10.0
    """Until a head is there: from the connection's beginning, later from its first byte."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._left: int | None = HEAD_BYTES
        """How much of a head may still come; None within a body."""
        self._has_begun = False
        self._received = 0
        self._timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing() and self.transport.get_protocol() is self:
            part, data = (data, b"") if self._left is None else (data[: self._left], data[self._left :])
            self._received = len(part)
            super().data_received(part)
            if self._left is not None:
                self._left -= len(part)
                if self._left <= 0 and not self.transport.is_closing():
                    self._refuse(_too_large())
        if self._has_begun and self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._has_begun, self._left = False, None
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._left = HEAD_BYTES + self._received
        super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._has_begun:
            detail = f"The request's headers did not arrive within {self.head_seconds:.0f} s."
            self._refuse(problem(408, "request_timeout", "The headers came too slowly", detail))
        else:
            self.transport.close()

    def _refuse(self, answer: JSONResponse) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else it would stand within another's answer
            headers = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            status = HTTPStatus(answer.status_code)
            self.transport.write(f"HTTP/1.1 {status} {status.phrase}\r\n".encode() + lines + b"\r\n" + answer.body)
        self._stop_timer()
        self.transport.close()


def _too_large() -> JSONResponse:
    detail = f"The request line and the headers are larger than {HEAD_BYTES} bytes."
    return problem(431, "headers_too_large", "The headers are too large", detail)
