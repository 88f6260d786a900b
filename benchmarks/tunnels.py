"""What an SSH tunnel costs a request: none, the pool with and without HTTP keep-alive, a tunnel opened per request.

A real OpenSSH server and an HTTP server on loopback, so the network's own latency is not in it: over a real one each
round trip that a row makes counts.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median, quantiles

from benchmarks.measuring import row
from tests.models.remote import CHUNK, digest_received, remote, send_much
from tests.models.sshd import Sshd, running_sshd
from videomoments_dagster.models.tunnels import Route, TunnelPool

BODY = b'{"messages": [{"role": "user", "content": "which sentences?"}]}'
REQUESTS, TUNNELS_OPENED, PARALLEL = 1000, 40, 32
VOLUME_BYTES = 200 * 10**6 // len(CHUNK) * len(CHUNK)
Address = tuple[str, int]


def main() -> None:
    print(
        f"\nTunnels: a POST of {len(BODY)} bytes; {REQUESTS} of each, {TUNNELS_OPENED} with a tunnel opened per request"
    )
    row("", "p50 ms", "p99 ms", "ratio p50", "ratio p99")
    with running_sshd() as sshd, _http_server() as direct, closing(TunnelPool()) as pool:
        route = sshd.route(direct[1])
        with _kept(direct) as ask:
            _latency("no tunnel, HTTP keep-alive (baseline)", base := _times(ask, REQUESTS), base)
        fresh = _times(lambda: _post_once(direct), REQUESTS)
        _latency("no tunnel, a new connection each", fresh, base)
        with pool.open(route) as address:
            with _kept(address) as ask:
                _latency("the pool, HTTP keep-alive", _times(lambda: _through(pool, route, ask), REQUESTS), base)
            _latency("the pool, a new connection each", _times(lambda: _post_by(pool, route), REQUESTS), base)
        _latency("a tunnel opened per request", _times(lambda: _alone(route), TUNNELS_OPENED), base)
        row(f"{PARALLEL} threads, a new connection each", "requests/s", "", "ratio")
        unhindered = _parallel(lambda: _post_once(direct))
        row("no tunnel (baseline)", f"{unhindered:.0f}", "", "1.00")
        rate = _parallel(lambda: _post_by(pool, route))
        row("the pool", f"{rate:.0f}", "", f"{rate / unhindered:.2f}")
        _volume(sshd, pool)


def _volume(sshd: Sshd, pool: TunnelPool) -> None:
    row(f"{VOLUME_BYTES / 1e6:.0f} MB", "MB/s down", "MB/s up", "ratio down", "ratio up")
    with remote(send_much(VOLUME_BYTES)) as sender, remote(digest_received) as receiver:
        down, up = _download(("127.0.0.1", sender)), _upload(("127.0.0.1", receiver))
        row("no tunnel (baseline)", f"{down:.0f}", f"{up:.0f}", "1.00", "1.00")
        with pool.open(sshd.route(sender)) as address:
            tunnelled_down = _download(address)
        with pool.open(sshd.route(receiver)) as address:
            tunnelled_up = _upload(address)
        ratios = f"{tunnelled_down / down:.2f}", f"{tunnelled_up / up:.2f}"
        row("the pool", f"{tunnelled_down:.0f}", f"{tunnelled_up:.0f}", *ratios)


def _through(pool: TunnelPool, route: Route, ask: Callable[[], None]) -> None:
    with pool.open(route):
        ask()


def _post_by(pool: TunnelPool, route: Route) -> None:
    with pool.open(route) as address:
        _post_once(address)


def _alone(route: Route) -> None:
    with closing(TunnelPool()) as pool:
        _post_by(pool, route)


def _post_once(address: Address) -> None:
    with _kept(address) as ask:
        ask()


@contextmanager
def _kept(address: Address) -> Iterator[Callable[[], None]]:
    """Asks over one connection that is kept. The standard client: it adds the least of its own."""
    connection = http.client.HTTPConnection(*address, timeout=30)

    def ask() -> None:
        connection.request("POST", "/v1/chat/completions", BODY)
        with connection.getresponse() as response:
            assert response.read() == BODY

    with closing(connection):
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ask


@contextmanager
def _http_server() -> Iterator[Address]:
    """Answers every POST with its own body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def _times(ask: Callable[[], None], count: int) -> list[float]:
    """Milliseconds of each; the first one, which opens what is kept, is not counted."""
    ask()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        ask()
        times.append((time.perf_counter() - begun) * 1000)
    return times


def _latency(name: str, times: list[float], base: list[float]) -> None:
    p50, p99, base_p50, base_p99 = median(times), _p99(times), median(base), _p99(base)
    row(name, f"{p50:.2f}", f"{p99:.2f}", f"{p50 / base_p50:.1f}", f"{p99 / base_p99:.1f}")


def _p99(times: list[float]) -> float:
    return quantiles(times, n=100, method="inclusive")[98]


def _parallel(ask: Callable[[], None]) -> float:
    """Requests a second of so many threads."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(PARALLEL) as threads:
        list(threads.map(lambda _: ask(), range(REQUESTS)))
    return REQUESTS / (time.perf_counter() - begun)


def _download(address: Address) -> float:
    """MB/s."""
    with socket.create_connection(address, 30) as client:
        begun, received = time.perf_counter(), 0
        client.sendall(b"!")
        while data := client.recv(1 << 20):
            received += len(data)
    assert received == VOLUME_BYTES
    return VOLUME_BYTES / 1e6 / (time.perf_counter() - begun)


def _upload(address: Address) -> float:
    """MB/s, until the other side says it has it all."""
    with socket.create_connection(address, 30) as client:
        begun = time.perf_counter()
        for _ in range(VOLUME_BYTES // len(CHUNK)):
            client.sendall(CHUNK)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100)
    return VOLUME_BYTES / 1e6 / (time.perf_counter() - begun)
