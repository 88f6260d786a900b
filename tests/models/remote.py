"""TCP servers behind the SSH host: each connection is handed to a function, in a thread of its own."""

import contextlib
import hashlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator

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
