"""A filtering HTTP(S) proxy on loopback for a library that makes its own connections: each passes the address guard.

It lives in a thread of this process for as long as its block, on a free port, behind a password of its own, so that no
other user of the machine can use it. What it carries is counted, and capped; no message is held whole.
"""

import base64
import hmac
import secrets
import selectors
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from videomoments_dagster.address_guard import WEB_PORTS, GuardedSession, connect, validate_url
from videomoments_dagster.errors import AddressRefused, SourceTooLarge, SourceUnavailable, VideoMomentsError

MOST_CONNECTIONS = 32
"""At a time."""
_BLOCK_BYTES = 64 * 1024
_LARGEST_REQUEST_BYTES = 4 * 1024**2
_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip  # RFC 9110, 7.6.1


class GuardedProxy:
    """`with GuardedProxy(...) as proxy`: `url` holds its password; `refusals` is why connections were not made.

    `max_bytes` is of all connections together, both ways: what would go beyond ends them all, with SourceTooLarge among
    the refusals. A connection on which nothing comes for `idle_seconds` is ended, and at most 32 are open at a time.
    """

    def __init__(
        self, *, allow_private: bool, ports: Collection[int] = WEB_PORTS, max_bytes: int, idle_seconds: float
    ) -> None:
        self.allow_private, self.ports, self.idle_seconds = allow_private, ports, idle_seconds
        self.refusals: list[VideoMomentsError] = []
        self._carried_bytes, self._max_bytes = 0, max_bytes
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._ends: set[Callable[[], None]] = set()
        self._is_closed = False
        self._password = secrets.token_urlsafe(24)
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="guarded-proxy", daemon=True
        )

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://videomoments:{self._password}@127.0.0.1:{self.port}"

    @property
    def carried_bytes(self) -> int:
        return self._carried_bytes

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.end_connections()
        self._thread.join()

    def is_allowed(self, authorization: str) -> bool:
        expected = base64.b64encode(f"videomoments:{self._password}".encode()).decode()
        return hmac.compare_digest(authorization.encode(), f"Basic {expected}".encode())

    def take(self, client: socket.socket) -> bool:
        """Whether there is room for one more."""
        with self._lock:
            if self._is_closed or len(self._clients) >= MOST_CONNECTIONS:
                return False
            self._clients.add(client)
            return True

    def leave(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.discard(client)

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """`end` is called when all connections are to end while the body runs. Raises SourceUnavailable after that."""
        with self._lock:
            if self._is_closed:
                raise SourceUnavailable("The proxy has ended.")
            self._ends.add(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends.discard(end)

    def end_connections(self) -> None:
        """And let none be opened any more."""
        with self._lock:
            self._is_closed = True
            for client in self._clients:
                _shut_down(client)
            for end in self._ends:
                end()

    def carry(self, count: int) -> None:
        """Count bytes before they are passed on. Raises SourceTooLarge."""
        with self._lock:
            self._carried_bytes += count
            is_over = self._carried_bytes > self._max_bytes
        if is_over:
            error = SourceTooLarge(f"More than {self._max_bytes} bytes came.")
            self.refusals.append(error)
            self.end_connections()
            raise error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], proxy: GuardedProxy) -> None:
        self.proxy = proxy
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.proxy.take(request):
            super().process_request(request, client_address)
        else:
            super().shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        self.proxy.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client or a server that went away. What the client is told of refusals is told before."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def setup(self) -> None:
        self.request.settimeout(self.server.proxy.idle_seconds)
        super().setup()

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        self.close_connection = True  # the next request may be for another host
        if self.server.proxy.is_allowed(self.headers.get("Proxy-Authorization", "")):
            return True
        self._answer(407, "Proxy Authentication Required", {"Proxy-Authenticate": "Basic", "Content-Length": "0"})
        return False

    def do_CONNECT(self) -> None:
        proxy = self.server.proxy
        try:
            parts = urlsplit(validate_url(f"https://{self.path}", allow_private=proxy.allow_private, ports=proxy.ports))
            upstream = connect(
                parts.hostname or "",
                parts.port or 443,
                allow_private=proxy.allow_private,
                ports=proxy.ports,
                timeout_seconds=proxy.idle_seconds,
            )
        except VideoMomentsError as error:
            self._refuse(error)
            return
        with upstream, suppress(VideoMomentsError), proxy.ending(lambda: _shut_down(upstream)):
            self._answer(200, "Connection established", {})
            self._relay(upstream)

    def _relay(self, upstream: socket.socket) -> None:
        """Pass bytes on, both ways, until one side ends or nothing comes. Nothing was read ahead: a client begins TLS
        after the answer to CONNECT."""
        proxy, client = self.server.proxy, self.connection
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, upstream)
            selector.register(upstream, selectors.EVENT_READ, client)
            while ready := selector.select(proxy.idle_seconds):
                for key, _ in ready:
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)  # noqa: S101  # registered above
                    block = source.recv(_BLOCK_BYTES)
                    if not block:
                        return
                    proxy.carry(len(block))
                    target.sendall(block)

    def _forward(self) -> None:
        """One plain request, asked anew through a guarded session; redirects are the client's business."""
        proxy = self.server.proxy
        length = self.headers.get("Content-Length", "0")
        if not (length.isdecimal() and int(length) <= _LARGEST_REQUEST_BYTES) or "Transfer-Encoding" in self.headers:
            self._answer(400, "Bad Request", {"Content-Length": "0"})
            return
        headers = {name: value for name, value in _end_to_end(self.headers) if name.lower() != "host"}
        body = self.rfile.read(int(length)) or None
        with GuardedSession(allow_private=proxy.allow_private, ports=proxy.ports) as session:
            session.headers.clear()
            try:
                url = validate_url(self.path, allow_private=proxy.allow_private, ports=proxy.ports)
                if not url.lower().startswith("http://"):
                    raise AddressRefused("Other schemes than http go through CONNECT.")
                with proxy.ending(session.abort):
                    response = session.request(
                        self.command, url, headers=headers, data=body, stream=True, timeout=proxy.idle_seconds
                    )
                    with response, suppress(VideoMomentsError, HTTPError):  # told by an answer that ends too early
                        self._pass_on(response)
            except VideoMomentsError as error:
                self._refuse(error)
            except requests.exceptions.RequestException:
                self._answer(502, "Bad Gateway", {"Content-Length": "0"})

    do_GET = do_HEAD = do_POST = _forward  # noqa: N815  # the base class looks for these

    def _pass_on(self, response: requests.Response) -> None:
        headers = [*_end_to_end(response.raw.headers)]
        has_body = self.command != "HEAD" and response.status_code not in {204, 304}
        is_chunked = has_body and all(name.lower() != "content-length" for name, _ in headers)
        framing = [("Transfer-Encoding", "chunked")] if is_chunked else []
        self._answer(response.status_code, response.reason or "", [*headers, *framing, ("Connection", "close")])
        while block := response.raw.read1(_BLOCK_BYTES):
            self.server.proxy.carry(len(block))
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if is_chunked else block)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, error: VideoMomentsError) -> None:
        self.server.proxy.refusals.append(error)
        if isinstance(error, AddressRefused):
            self._answer(403, "Address refused", {"Content-Length": "0"})
        else:
            self._answer(502, "Bad Gateway", {"Content-Length": "0"})

    def _answer(self, status: int, reason: str, headers: Mapping[str, str] | list[tuple[str, str]]) -> None:
        self.send_response_only(status, reason)
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: what is refused is told by `refusals`."""


def _end_to_end(headers: Any) -> Iterator[tuple[str, str]]:
    """Without those that are of one connection. A header that was sent several times comes several times."""
    return ((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)


def _shut_down(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
