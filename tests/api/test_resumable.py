"""Uploads by TUS, against the real application."""

import asyncio
import base64
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import receiving, resumable
from api.services import Services
from db.queries import requests
from tests.api.conftest import QueryCounter, assert_problem, messages
from videomoments_dagster.requests.stream import STREAM
from videomoments_dagster.storage import names
from videomoments_dagster.temp_files import RESUME, UPLOADS, TempFiles

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}
CONTENT = bytes(range(256)) * 20
LENGTH = len(CONTENT)
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def metadata(**fields: str) -> dict[str, str]:
    return {"Upload-Metadata": ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in fields.items())}


def begin(client: TestClient, length: int = LENGTH, **fields: str) -> Any:
    given = metadata(**{"filename": "My talk.mp4", **fields})
    return client.post("/api/uploads", headers={**TUS, "Upload-Length": str(length), **given})


def send(client: httpx.Client, url: str, content: Any, offset: int | str = 0, **headers: str) -> Any:
    return client.patch(url, content=content, headers={**TUS, **BYTES, "Upload-Offset": str(offset), **headers})


def offset_of(client: httpx.Client, url: str) -> int:
    found = client.head(url, headers=TUS)
    assert found.status_code == 200, found.text
    return int(found.headers["upload-offset"])


def test_a_file_comes_in_parts_and_is_submitted_once(
    client: TestClient, services: Services, redis: Any, home: Path, statements: QueryCounter
) -> None:
    made = begin(client, title="A talk", config=json.dumps({"min_moments": 2}))
    assert made.status_code == 201, made.text
    url = made.headers["location"]
    assert made.headers["upload-offset"] == "0"
    first = send(client, url, CONTENT[:2000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "2000")
    with statements() as sent:
        shown = client.get(url).json()
        head = client.head(url, headers=TUS).headers
    assert sent == []
    assert (shown["offset"], shown["length"], shown["submitted"]) == (2000, LENGTH, None)
    assert (head["upload-offset"], head["upload-length"]) == ("2000", str(LENGTH))
    assert head["upload-metadata"].startswith("filename ")
    assert head["cache-control"] == "no-store"
    last = send(client, url, CONTENT[2000:], 2000)
    assert last.status_code == 204, last.text
    video, request_id = last.headers["videomoments-video-id"], last.headers["videomoments-request-id"]
    assert (video, request_id) == ("My-talk", url.rpartition("/")[2])
    assert client.get(last.headers["content-location"]).json()["request_id"] == request_id
    stored = services.store.require(names.upload(video, request_id))
    assert stored.md5 == base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()
    submitted = {
        "video_id": video,
        "request_id": request_id,
        "status_url": "/api/pipeline/My-talk/status",
        "already_processed": False,
    }
    assert client.get(url).json()["submitted"] == submitted
    assert offset_of(client, url) == LENGTH
    assert send(client, url, b"", LENGTH).headers["videomoments-request-id"] == request_id
    assert redis.xlen(STREAM) == 1


def test_what_a_client_asks_of_the_server_is_in_headers(client: TestClient, services: Services) -> None:
    headers = client.options("/api/uploads").headers
    assert headers["tus-version"] == headers["tus-resumable"] == "1.0.0"
    assert int(headers["tus-max-size"]) == services.settings.max_download_bytes
    assert {"creation", "creation-with-upload", "termination", "expiration", "checksum"} == set(
        headers["tus-extension"].split(",")
    )
    assert headers["tus-checksum-algorithm"] == "md5,sha1,sha256"


def test_the_whole_file_can_come_with_the_post(client: TestClient) -> None:
    made = client.post(
        "/api/uploads", content=CONTENT, headers={**TUS, **BYTES, "Upload-Length": str(LENGTH)} | metadata()
    )
    assert (made.status_code, made.headers["upload-offset"]) == (201, str(LENGTH))
    assert made.headers["videomoments-video-id"] == "video"
    assert client.get(made.headers["location"]).json()["submitted"]["video_id"] == "video"


def test_an_upload_that_was_given_up_is_gone_with_its_bytes(client: TestClient, home: Path) -> None:
    url = begin(client).headers["location"]
    send(client, url, b"abc")
    assert client.delete(url, headers=TUS).status_code == 204
    assert list((home / "temp").iterdir()) == []
    for answer in (client.head(url, headers=TUS), client.delete(url, headers=TUS), send(client, url, b"abc")):
        assert answer.status_code == 404
    assert_problem(client.get(url), 404, "not_found")


def test_a_webhook_is_kept_and_its_secret_not_told(client: TestClient, services: Services, home: Path) -> None:
    hook = {"webhook_url": "https://example.org/hook", "webhook_secret": SECRET}
    url = begin(client, 1, **hook).headers["location"]
    shown = client.head(url, headers=TUS).headers["upload-metadata"]
    assert "webhook_url " in shown
    assert "secret" not in shown
    request_id = send(client, url, b"x").headers["videomoments-request-id"]
    with services.database.read() as session:
        row = requests.get(session, request_id)
        assert row
        assert (row.webhook_url, row.webhook_secret) == (hook["webhook_url"], SECRET)
    [record] = (home / "temp").rglob(RESUME)
    assert "webhook_url " in record.read_text()
    assert "secret" not in record.read_text(), "it is in the request's row now"


class TestRefusals:
    @pytest.mark.parametrize(
        ("headers", "status", "code"),
        [
            ({"Upload-Length": "-1"}, 422, "invalid_input"),
            ({"Upload-Length": "1e3"}, 422, "invalid_input"),
            ({"Upload-Length": "٣"}, 422, "invalid_input"),
            ({"Upload-Length": ""}, 422, "invalid_input"),
            ({"Upload-Length": "0"}, 422, "invalid_input"),
            ({"Upload-Length": "9" * 30}, 422, "invalid_input"),
            ({"Upload-Length": str(2**62)}, 422, "invalid_input"),
            ({"Upload-Length": str(21 * 1024**3)}, 413, "too_large"),
            ({"Upload-Defer-Length": "1"}, 422, "invalid_input"),
            ({"Upload-Concat": "partial"}, 422, "invalid_input"),
            ({"Upload-Metadata": "filename not-base64!"}, 422, "invalid_input"),
            ({"Upload-Metadata": "title /////w=="}, 422, "invalid_input"),
            ({"Upload-Metadata": "title YQ==,title Yg=="}, 422, "invalid_input"),
            ({"Upload-Metadata": "titel YQ=="}, 422, "invalid_input"),
            ({"Upload-Metadata": "title " + "YWFh" * 5000}, 422, "invalid_input"),
            (metadata(title="x" * 501), 422, "invalid_config"),
            (metadata(config="[1]"), 422, "invalid_input"),
            (metadata(config='{"max_momentz": 1}'), 422, "invalid_config"),
            (metadata(identifier="../../etc/passwd"), 422, "invalid_identifier"),
            (metadata(idempotency_key="a\0b"), 422, "invalid_input"),
            (metadata(webhook_url="ftp://example.org"), 422, "address_refused"),
            (metadata(idempotency_key="k" * 256), 422, "invalid_input"),
            ({"Tus-Resumable": "0.2.2"}, 412, "tus_version_mismatch"),
        ],
    )
    def test_what_can_not_be_begun_leaves_nothing(
        self, client: TestClient, home: Path, headers: dict[str, str], status: int, code: str
    ) -> None:
        given = {key: value.encode() for key, value in headers.items()}
        answer = client.post("/api/uploads", headers={**TUS, "Upload-Length": "10", **given})
        assert_problem(answer, status, code)
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert not (home / "temp").exists() or list((home / "temp").iterdir()) == []

    def test_a_taken_identifier_is_told_before_the_bytes_are_sent(self, client: TestClient) -> None:
        assert client.post("/api/videos", json={"url": "https://example.org/a.mp4"}).status_code == 202
        assert_problem(begin(client, identifier="a"), 409, "conflict")

    def test_what_does_not_go_on_where_it_ended_is_refused_and_changes_nothing(self, client: TestClient) -> None:
        url = begin(client).headers["location"]
        send(client, url, b"0123456789")
        assert_problem(send(client, url, b"x", 9), 409, "offset_mismatch")
        assert_problem(send(client, url, b"x", 11), 409, "offset_mismatch")
        assert_problem(send(client, url, b"x", offset="-1"), 422, "invalid_input")
        assert_problem(send(client, url, b"x" * LENGTH, 10), 413, "too_large")
        assert_problem(send(client, url, iter([CONTENT, b"more"]), 10), 413, "too_large")
        assert_problem(send(client, url, b"x", 10, **{"Content-Type": "video/mp4"}), 415, "unsupported_media_type")
        assert_problem(send(client, url, b"x", 10, **{"Tus-Resumable": "2.0.0"}), 412, "tus_version_mismatch")
        assert client.head(url).headers["tus-version"] == "1.0.0"
        assert offset_of(client, url) == 10

    @pytest.mark.parametrize("path", ["x", "..%2f..%2fetc", "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e"])
    def test_an_upload_that_is_not_ours_is_not_found(self, client: TestClient, path: str) -> None:
        for answer in (client.head(f"/api/uploads/{path}", headers=TUS), send(client, f"/api/uploads/{path}", b"x")):
            assert answer.status_code in {404, 422}

    def test_a_file_name_is_never_a_path(self, client: TestClient, services: Services) -> None:
        url = begin(client, 1, filename="..\\..\\etc/../My talk.mp4").headers["location"]
        assert send(client, url, b"x").headers["videomoments-video-id"] == "My-talk"


class TestChecksums:
    @pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
    def test_what_has_its_checksum_is_kept_and_nothing_of_what_has_not(
        self, client: TestClient, home: Path, algorithm: str
    ) -> None:
        url = begin(client).headers["location"]
        digest = base64.b64encode(hashlib.new(algorithm, CONTENT[:1000]).digest()).decode()
        header = {"Upload-Checksum": f"{algorithm} {digest}"}
        assert send(client, url, CONTENT[:1000], **header).headers["upload-offset"] == "1000"
        problem = assert_problem(send(client, url, CONTENT[1000:2001], 1000, **header), 460, "checksum_mismatch")
        assert problem["retryable"]
        assert offset_of(client, url) == 1000
        assert not list((home / "temp").rglob("part"))

    @pytest.mark.parametrize(("header", "status"), [("crc32 AAAA", 400), ("md5 ???", 422), ("", 400)])
    def test_one_that_can_not_be_checked_is_refused(self, client: TestClient, header: str, status: int) -> None:
        url = begin(client).headers["location"]
        assert send(client, url, b"abc", **{"Upload-Checksum": header}).status_code == status
        assert offset_of(client, url) == 0


class TestSubmission:
    def test_a_process_that_died_before_the_answer_submitted_once(
        self, client: TestClient, services: Services, redis: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After the row was written, and before the record says so; its run began before the client came back."""
        url = begin(client).headers["location"]
        with monkeypatch.context() as dying:
            dying.setattr(resumable._Record, "write", _die)
            assert send(client, url, CONTENT).status_code == 500
        assert client.get(url).json()["submitted"] is None
        services.status.run_started("My-talk", "run")
        assert offset_of(client, url) == LENGTH
        made = client.get(url).json()["submitted"]
        assert made["request_id"] == url.rpartition("/")[2]
        assert [each.name for each in services.store.list("uploads/")] == [names.upload("My-talk", made["request_id"])]
        assert client.get("/api/pipeline/My-talk/status").json()["status"] == "running"
        assert [fields["request_id"] for fields in messages(redis)] == [made["request_id"]]

    def test_a_disk_that_is_full_when_the_request_was_made_is_told_and_the_request_found_again(
        self, client: TestClient, home: Path, redis: Any
    ) -> None:
        url = begin(client).headers["location"]
        scratch = _directory(home, url) / "resume.json.new"
        scratch.symlink_to("/dev/full")
        assert_problem(send(client, url, CONTENT), 503, "disk_full")
        assert_problem(send(client, url, b"", LENGTH, **metadata(title="A talk")), 503, "disk_full")
        scratch.unlink()
        assert send(client, url, b"", LENGTH).headers["videomoments-request-id"] == url.rpartition("/")[2]
        assert redis.xlen(STREAM) == 1

    def test_what_could_not_be_submitted_can_be_once_it_is_mended(self, client: TestClient) -> None:
        url = begin(client, identifier="talk").headers["location"]
        client.post("/api/videos", json={"url": "https://example.org/a.mp4", "identifier": "talk"})
        assert_problem(send(client, url, CONTENT), 409, "conflict")
        assert offset_of(client, url) == LENGTH, "nothing is to be sent again"
        assert_problem(send(client, url, b"", LENGTH), 409, "conflict")
        mended = send(client, url, b"", LENGTH, **metadata(identifier="talk2"))
        assert mended.headers["videomoments-video-id"] == "talk2"

    def test_the_same_idempotency_key_gives_the_same_request(self, client: TestClient) -> None:
        made = []
        for _ in range(2):
            url = begin(client, idempotency_key="k").headers["location"]
            made.append(send(client, url, CONTENT).headers["videomoments-request-id"])
            assert client.get(url).json()["submitted"]["request_id"] == made[-1]
        assert made[0] == made[1]
        for another in ({"webhook_url": "https://example.org/hook"}, {"title": "Another"}):
            problem = assert_problem(begin(client, LENGTH, idempotency_key="k", **another), 409, "conflict")
            assert "new key" in problem["hint"], "before any byte is sent"


class TestRoom:
    def test_unfinished_uploads_are_bounded_and_those_that_nobody_goes_on_with_make_room(
        self, client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resumable, "MOST_UNFINISHED", 3)
        urls = [begin(client).headers["location"] for _ in range(3)]
        send(client, urls[2], CONTENT)
        urls.append(begin(client).headers["location"])
        problem = begin(client)
        assert_problem(problem, 429, "rate_limited")
        assert problem.headers["retry-after"] == "60"
        _make_idle(home, urls[1])
        assert begin(client).status_code == 201
        assert [client.get(url).status_code for url in urls] == [200, 404, 200, 200]

    def test_nobody_has_more_than_their_share_and_what_is_empty_gives_way_within_minutes(
        self, client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resumable, "MOST_OF_ONE", 2)
        another = TestClient(client.app, base_url=str(client.base_url), client=("127.0.0.2", 1))
        others = begin(another).headers["location"]
        urls = [begin(client).headers["location"] for _ in range(2)]
        send(client, urls[0], b"abc")
        for url in (others, urls[0]):
            _make_idle(home, url, 120)
        assert_problem(begin(client), 429, "rate_limited")
        assert begin(another).status_code == 201, "another's share is not used up"
        _make_idle(home, urls[1], 120)
        with TempFiles.of(client.app.state.services.settings).parked(UPLOADS, urls[1].rpartition("/")[2]):  # pyright: ignore
            assert_problem(begin(client), 429, "rate_limited")
        assert begin(client).status_code == 201
        assert [client.get(url).status_code for url in (others, *urls)] == [200, 200, 404]

    @pytest.mark.parametrize("record", [b"", b"\xff", b"[]", b'{"length": 3}', b'{"length": null, "metadata": ""}'])
    def test_one_whose_record_can_not_be_read_is_not_there_and_in_nobodys_way(
        self, client: TestClient, home: Path, record: bytes
    ) -> None:
        url = begin(client).headers["location"]
        (_directory(home, url) / RESUME).write_bytes(record)
        assert begin(client).status_code == 201
        assert_problem(client.get(url), 404, "not_found")
        assert_problem(send(client, url, b"abc"), 404, "not_found")
        assert client.delete(url, headers=TUS).status_code == 204

    def test_together_they_reserve_no_more_than_the_settings_allow(
        self, client: TestClient, app: FastAPI, services: Services
    ) -> None:
        app.state.services = replace(services, settings=services.settings.model_copy(update={"temp_bytes": 1000}))
        assert begin(client, 600).status_code == 201
        problem = assert_problem(begin(client, 401), 413, "no_room_for_upload")
        assert problem["retryable"]
        assert begin(client, 400).status_code == 201

    def test_a_day_after_the_last_byte_it_is_gone(self, client: TestClient, home: Path) -> None:
        url = begin(client).headers["location"]
        expires = parsedate_to_datetime(begin(client).headers["upload-expires"])
        assert timedelta(hours=23, minutes=59) < expires - datetime.now(UTC) <= timedelta(hours=24)
        _make_idle(home, url, 24 * 3600 + 60)
        assert send(client, url, b"abc").status_code == 404
        assert not list((home / "temp" / "uploads").glob(url.rpartition("/")[2]))

    @pytest.mark.parametrize("batch_bytes", [1200, receiving.BATCH_BYTES])
    def test_a_full_disk_keeps_what_came(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch, batch_bytes: int
    ) -> None:
        """In a batch before the last one, or in that."""
        monkeypatch.setattr(receiving, "BATCH_BYTES", batch_bytes)
        url = begin(client).headers["location"]
        real_write = os.write

        def full(descriptor: int, data: Any) -> int:
            if len(data) > 1000:
                return real_write(descriptor, bytes(data[:1000]))
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as small:
            small.setattr(receiving.os, "write", full)
            problem = assert_problem(send(client, url, CONTENT[:1500]), 503, "disk_full")
        assert problem["retryable"]
        assert offset_of(client, url) == 1000
        assert send(client, url, CONTENT[1000:], 1000).status_code == 204


def test_what_is_being_written_when_the_sender_is_cancelled_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uvicorn does to those that send when it is told to stop."""
    monkeypatch.setattr(receiving, "BATCH_BYTES", 1000)
    path, real_write, writes, goes_on = tmp_path / "content", os.write, threading.Event(), threading.Event()
    path.touch()

    def slow(descriptor: int, data: Any) -> int:
        writes.set()
        assert goes_on.wait(10)
        return real_write(descriptor, data)

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, LENGTH, 500):
            yield CONTENT[start : start + 500]

    async def send_until_cancelled() -> None:
        sending = asyncio.create_task(receiving.append(body(), path, receiving.Sender(), most=LENGTH))
        assert await asyncio.to_thread(writes.wait, 10)
        sending.cancel()
        await asyncio.wait({sending}, timeout=0.02)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await sending

    with monkeypatch.context() as disk:
        disk.setattr(receiving.os, "write", slow)
        asyncio.run(send_until_cancelled())
    assert path.read_bytes() == CONTENT[:1000]


def _die(*_arguments: object) -> None:
    raise RuntimeError("killed")


def _directory(home: Path, url: str) -> Path:
    [found] = (home / "temp" / "uploads" / url.rpartition("/")[2]).iterdir()
    return found


def _make_idle(home: Path, url: str, seconds: float = resumable.IDLE_SECONDS + 60) -> None:
    directory = home / "temp" / "uploads" / url.rpartition("/")[2]
    at = time.time() - seconds
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (at, at))
