"""Heads of requests over real sockets: who sends an endless one, or a slow one, is let go."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from api.http_protocol import HEAD_BYTES, BoundedHeads

ASKED = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def connection(server: str, app: FastAPI) -> Iterator[socket.socket]:
    assert app
    with _connect(server) as connection:
        yield connection


def _connect(server: str) -> socket.socket:
    where = urlsplit(server)
    return socket.create_connection((where.hostname, where.port), timeout=10)


def _answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def test_a_head_that_has_no_end_is_refused_at_64_kib(connection: socket.socket) -> None:
    connection.sendall(ASKED + b"X: " + b"a" * (HEAD_BYTES - len(ASKED) - 3))
    answer = _answer(connection)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"connection: close" in answer and b'"code":"headers_too_large"' in answer


def test_heads_are_counted_one_by_one_and_bodies_are_not(connection: socket.socket) -> None:
    large = ASKED + b"X: " + b"a" * (HEAD_BYTES // 2) + b"\r\n"
    body = b"b" * (3 * HEAD_BYTES)
    post = b"POST /api/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    posted = post + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for asked, status in ((large + b"\r\n", b"200"), (posted, b"404"), (large + b"\r\n", b"200")):
        connection.sendall(asked)
        assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)
    connection.sendall((ASKED + b"\r\n") * 3 + large + b"Connection: close\r\n\r\n")
    assert _answer(connection).count(b"HTTP/1.1 200") == 4


def test_a_head_that_does_not_come_is_not_waited_for(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHeads, "head_seconds", 0.1)
    with _connect(server) as silent, _connect(server) as slow:
        slow.sendall(ASKED + b"\r\n")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200")
        slow.sendall(ASKED)
        assert _answer(slow).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert _answer(silent) == b""
