"""TCP servers behind the SSH host, and how tests reach them through a tunnel."""

import contextlib
import hashlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

from videomoments_dagster.errors import ModelUnavailable, TunnelUnavailable
from videomoments_dagster.models.tunnels import Route, TunnelPool

CHUNK = bytes(range(256)) * 256


@contextlib.contextmanager
def remote(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Listens on loopback while this lasts; yields the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                serve(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def echo(client: socket.socket) -> None:
    """Send back what comes, and close after the other side has."""
    while data := client.recv(65536):
        client.sendall(data)


def digest_received(client: socket.socket) -> None:
    """Read to the end, then answer with the SHA-256 of it all."""
    digest = hashlib.sha256()
    while data := client.recv(1 << 20):
        digest.update(data)
    client.sendall(digest.digest())


def send_much(size_bytes: int) -> Callable[[socket.socket], None]:
    """Answer the first byte with so many, and close."""

    def serve(client: socket.socket) -> None:
        client.recv(1)
        for _ in range(size_bytes // len(CHUNK)):
            client.sendall(CHUNK)

    return serve


def digest_of(size_bytes: int) -> bytes:
    digest = hashlib.sha256()
    for _ in range(size_bytes // len(CHUNK)):
        digest.update(CHUNK)
    return digest.digest()


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=10)


def say(address: tuple[str, int], words: bytes = b"hello") -> bytes:
    """What an echoing server sends back to all of it."""
    with connect(address) as client:
        client.sendall(words)
        client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").read()


def eventually(happened: Callable[[], object], seconds: float = 5.0) -> bool:
    """For what another process does, which nothing here can await."""
    deadline = time.monotonic() + seconds
    while not (done := happened()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(done)


def opened(pool: TunnelPool, route: Route) -> tuple[str, int]:
    with pool.open(route) as address:
        return address


def opens(pool: TunnelPool, route: Route) -> bool:
    try:
        return bool(opened(pool, route))
    except (TunnelUnavailable, ModelUnavailable):
        return False
