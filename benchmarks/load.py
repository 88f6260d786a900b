"""A load generator: `python -m benchmarks.load HOST PORT CONNECTIONS SECONDS`, paths on stdin, answers with JSON.

Each connection asks for the next path as soon as its answer is whole. It costs some 60 µs a request, far less than any
server here, and runs in a process of its own so that it does not share a core's time with the server's.
"""

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from subprocess import run
from typing import Any

_WARMING_SECONDS = 1.0
_HEADERS = "Host: {host}:{port}\r\nAccept: application/json\r\n\r\n"


def load(port: int, paths: list[str], *, connections: int, seconds: float) -> dict[str, Any]:
    """`requests_a_second`, `p50_ms`, `p99_ms`, `answers` by status ("broken": no whole answer), `bytes` of the median
    body."""
    argv = [sys.executable, "-m", "benchmarks.load", "127.0.0.1", str(port), str(connections), str(seconds)]
    root = Path(__file__).parent.parent
    done = run(argv, input="\n".join(paths), capture_output=True, text=True, check=True, cwd=root)
    return json.loads(done.stdout)


class _Connection(asyncio.Protocol):
    def __init__(self, load: "_Load") -> None:
        self._load, self._received = load, bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) < end + 4 + length:
            return
        del self._received[: end + 4 + length]
        self._load.took(self._asked_at, int(head[9:12]), length)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost()

    def _ask(self) -> None:
        if self._load.is_over:
            self._transport.close()
            return
        self._asked_at = time.perf_counter()
        self._transport.write(next(self._load.requests))


class _Load:
    def __init__(self, host: str, port: int, paths: list[str], seconds: float) -> None:
        headers = _HEADERS.format(host=host, port=port)
        self.requests = cycle([f"GET {path} HTTP/1.1\r\n{headers}".encode() for path in paths])
        self.begun = time.perf_counter() + _WARMING_SECONDS
        self.ends = self.begun + seconds
        self.took_seconds: list[float] = []
        self.sizes: list[int] = []
        self.answers: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self.ends

    def took(self, asked_at: float, status: int, size: int) -> None:
        if asked_at >= self.begun:
            self.took_seconds.append(time.perf_counter() - asked_at)
            self.sizes.append(size)
            self.answers[str(status)] += 1

    def lost(self) -> None:
        if not self.is_over:
            self.answers["broken"] += 1


async def _main(host: str, port: int, connections: int, seconds: float) -> None:
    paths = sys.stdin.read().split()
    work = _Load(host, port, paths, seconds)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.create_connection(lambda: _Connection(work), host, port) for _ in range(connections)))
    await asyncio.sleep(_WARMING_SECONDS + seconds + 0.5)
    times = sorted(work.took_seconds) or [float("nan")]
    result = {
        "requests_a_second": len(work.took_seconds) / seconds,
        "p50_ms": 1000 * statistics.median(times),
        "p99_ms": 1000 * times[int(len(times) * 0.99)],
        "answers": dict(work.answers),
        "bytes": int(statistics.median(work.sizes or [0])),
    }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
    except ImportError:  # Windows
        asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
