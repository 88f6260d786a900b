"""Uploads by TUS over real connections: another's client, and connections and processes that end in the middle."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from tusclient.client import TusClient

from api import receiving
from api.services import Services
from tests.api.conftest import assert_problem
from tests.api.test_resumable import CONTENT, LENGTH, TUS, begin, offset_of, send
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.ports import free_port, is_free
from videomoments_dagster.storage import names


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def half_sent(server: str, url: str, content: bytes, length: int = LENGTH) -> socket.socket:
    """A connection on which a PATCH has begun, and does not go on."""
    parts = urlsplit(server)
    connection = socket.create_connection((parts.hostname, parts.port))
    head = f"PATCH {url} HTTP/1.1\r\nHost: {parts.netloc}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
    head += f"Content-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def is_busy(client: httpx.Client, url: str) -> bool:
    return send(client, url, b"", 0).status_code == 423


def test_another_client_is_interrupted_and_goes_on(client: TestClient, server: str, services: Services) -> None:
    tus = TusClient(f"{server}/api/uploads")
    file, metadata = BytesIO(CONTENT), {"filename": "talk.mp4"}
    first = tus.uploader(file_stream=file, chunk_size=1000, metadata=metadata, upload_checksum=True)
    first.upload(stop_at=3000)
    again = tus.uploader(file_stream=file, chunk_size=1000, url=first.url)
    assert again.offset == 3000
    again.upload()
    made = client.get(urlsplit(again.url).path).json()["submitted"]
    assert services.store.require(names.upload("talk", made["request_id"])).size_bytes == LENGTH


def test_what_came_before_a_connection_ended_is_kept(client: TestClient, server: str) -> None:
    url = begin(client).headers["location"]
    with half_sent(server, url, CONTENT[:3000]):
        until(lambda: is_busy(client, url))
        problem = assert_problem(client.delete(url, headers=TUS), 423, "upload_busy")
        assert problem["retryable"]
    until(lambda: offset_of(client, url) == 3000)
    assert send(client, url, CONTENT[3000:], 3000).headers["videomoments-video-id"] == "My-talk"


def test_a_silent_connection_gives_way_to_the_client_that_lost_it(
    client: TestClient, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = begin(client).headers["location"]
    with (
        half_sent(server, url, CONTENT[:3000]) as lost,
        httpx.Client(base_url=server, trust_env=False, timeout=10) as back,
    ):
        until(lambda: is_busy(back, url))
        monkeypatch.setattr(receiving, "_YIELD_SECONDS", 0.0)
        assert_problem(send(back, url, CONTENT, 0), 409, "offset_mismatch")
        assert offset_of(back, url) == 3000
        assert send(back, url, CONTENT[3000:], 3000).status_code == 204
        assert b" 408 " in lost.recv(100)


def test_nobody_waits_for_a_dead_connection_for_ever(
    client: TestClient, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SILENCE_SECONDS", 0.1)
    url = begin(client).headers["location"]
    with half_sent(server, url, CONTENT[:3000]) as dead:
        dead.settimeout(10)
        assert b" 408 " in dead.recv(100)
    assert offset_of(client, url) == 3000


def test_an_upload_survives_the_kill_of_its_process(client: TestClient, services: Services, settings: Settings) -> None:
    """Another process, with the same home, goes on at the byte that is on disk."""
    content = hashlib.shake_128(b"a video").digest(3 * 1024**2)
    url = begin(client, len(content)).headers["location"]
    port = free_port()
    environment = {
        **os.environ,
        "VIDEOMOMENTS_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
    }
    command = [sys.executable, "-m", "api", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: not is_free(port))
            with half_sent(f"http://127.0.0.1:{port}", url, content[: 2 * 1024**2], len(content)):
                until(lambda: offset_of(client, url) > 1024**2)
                assert is_busy(client, url), "the other process has it"
                process.kill()
        finally:
            process.kill()
    offset = offset_of(client, url)
    made = send(client, url, content[offset:], offset).headers
    with services.store.local_copy(names.upload("My-talk", made["videomoments-request-id"]), settings.home) as stored:
        assert stored.read_bytes() == content
