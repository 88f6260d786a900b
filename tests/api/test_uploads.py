"""Files by multipart forms that are not what a browser sends."""

import json
import os
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import forms, receiving, uploads
from api.services import Services
from tests.api.conftest import assert_problem

FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
HEADERS = {"content-type": "multipart/form-data; boundary=b"}


def post(client: TestClient, body: bytes, **headers: str):
    return client.post("/api/videos/upload", content=body, headers={**HEADERS, **headers})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(FILE % b"a" + b"abc", id="cut in the file"),
        pytest.param(FILE % b"a" + b"abc\r\n--b\r\n", id="cut after the file"),
        pytest.param(FILE % b"a" + b"abc\r\n" + FILE % b"b" + b"abc\r\n--b--\r\n", id="two files"),
        pytest.param(FILE % b"a" + b"abc\r\n--b\r\n\r\nx\r\n--b--\r\n", id="a part without a name"),
        pytest.param(FILE % b"a" + b"abc\r\n--b\r\nbroken header\r\n\r\nx\r\n--b--\r\n", id="a broken header"),
        pytest.param(
            b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\n' + b"x" * 70_000 + b"\r\n--b--\r\n",
            id="a long field",
        ),
        pytest.param(
            FILE % b"a"
            + b'abc\r\n--b\r\nContent-Disposition: form-data; name="config"\r\n\r\n'
            + b"[" * 60_000
            + b"\r\n--b--\r\n",
            id="a config of many brackets",
        ),
        pytest.param(b"", id="nothing"),
        pytest.param(b"no form", id="no form"),
    ],
)
def test_a_form_that_is_broken_leaves_no_file_and_none_open(client: TestClient, home: Path, body: bytes) -> None:
    assert_problem(post(client, body), 422, "invalid_input")
    assert list((home / "temp").rglob("*")) == []
    opened = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert [path for path in opened if path.is_relative_to(home / "temp")] == []


@pytest.mark.parametrize("name", [b"../../etc/My talk.mp4", b"C:\\\\videos\\\\My talk.mp4"])
def test_a_file_name_is_never_a_path(client: TestClient, name: bytes) -> None:
    answer = post(client, FILE % name + b"abc\r\n--b--\r\n")
    assert answer.status_code == 202, answer.text
    assert answer.json()["video_id"] == "My-talk"


def test_the_boundary_may_fall_apart_between_two_packets(client: TestClient) -> None:
    body = FILE % b"a" + b"\r\n-\r\n--" * 200_000 + b"\r\n--b--\r\n"
    parts = (body[at : at + 65_537] for at in range(0, len(body), 65_537))
    answer = client.post("/api/videos/upload", content=parts, headers=HEADERS)
    assert answer.status_code == 202, answer.text
    with client.app.state.services.store.local_copy(  # pyright: ignore
        f"uploads/a/{answer.json()['request_id']}", Path()
    ) as stored:
        assert stored.read_bytes() == b"\r\n-\r\n--" * 200_000


def test_forms_find_room_as_other_uploads_do(
    client: TestClient, app: FastAPI, services: Services, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.state.services = replace(services, settings=services.settings.model_copy(update={"temp_bytes": 3000}))
    monkeypatch.setattr(forms, "STEP_BYTES", 1000)
    monkeypatch.setattr(uploads, "BATCH_BYTES", 500)
    body = FILE % b"a" + b"x" * 2000 + b"\r\n--b--\r\n"
    announced = assert_problem(post(client, body + b"x" * 1000), 413, "no_room_for_upload")
    assert announced["retryable"]
    grown = client.post("/api/videos/upload", content=iter([body[:1500], body[1500:], b"x" * 900]), headers=HEADERS)
    assert_problem(grown, 413, "no_room_for_upload")
    assert list((home / "temp").rglob("content")) == []
    with monkeypatch.context() as busy:
        busy.setattr(forms, "MOST_AT_ONCE", 0)
        problem = post(client, body)
        assert_problem(problem, 429, "rate_limited")
        assert problem.headers["retry-after"] == "10"
    assert post(client, body).status_code == 202


def test_nobody_waits_for_a_form_whose_sender_is_gone(
    client: TestClient, server: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SILENCE_SECONDS", 0.1)
    at = urlsplit(server)
    with socket.create_connection((at.hostname, at.port), timeout=10) as connection:
        head = f"POST /api/videos/upload HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: 10000\r\n"
        head += f"Content-Type: {HEADERS['content-type']}\r\n\r\n"
        connection.sendall(head.encode() + FILE % b"a" + b"abc")
        assert b" 408 " in connection.recv(100)
    assert list((home / "temp").rglob("*")) == []


def test_the_commands_of_the_documentation_work(app: FastAPI, server: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "uploads.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    file = tmp_path / "My talk.mp4"
    file.write_bytes(b"movie" * 1000)
    environment = {"PATH": os.environ["PATH"], "API": server, "FILE": str(file)}
    script = "set -eo pipefail\n" + "\necho\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    form, *_, upload = (json.loads(line) for line in done.stdout.splitlines() if line)
    assert form["video_id"] == "My-talk"
    assert upload["offset"] == upload["length"] == 5000
    assert upload["submitted"]["video_id"].startswith("My-talk-")
