"""Fetching from a real server that misbehaves: typed errors, nothing half-written, no byte fetched twice."""

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.tls import tls_in_front_of
from tests.web import Web, serving
from videomoments_dagster.errors import (
    AddressRefused,
    DiskFull,
    NotAVideo,
    SourceIncomplete,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
    VideoMomentsError,
)
from videomoments_dagster.media.fetch import FetchedFile, fetch
from videomoments_dagster.settings import Settings, get_settings

CONTENT = bytes(range(256)) * 4096  # 1 MB


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def _fetch(url: str, directory: Path, **settings: Any) -> FetchedFile:
    return fetch(url, directory / "out", settings=_settings(**settings), retry_pause_seconds=0.0)


def _settings(**fields: Any) -> Settings:
    defaults = {"allow_private_urls": True, "fetch_timeout_seconds": 5.0, "pages": False}
    return get_settings().model_copy(update={**defaults, **fields})


def _refused(url: str, directory: Path, kind: type[VideoMomentsError], **settings: Any) -> VideoMomentsError:
    """The fetch fails with `kind` and leaves no file behind."""
    with pytest.raises(kind) as caught:
        _fetch(url, directory, **settings)
    assert caught.value.hint
    assert not list((directory / "out").glob("*")) if (directory / "out").exists() else True
    return caught.value


def _send(request: BaseHTTPRequestHandler, body: bytes, *, promised: int | None = None, **headers: str) -> None:
    status = int(headers.pop("status", "200"))
    request.send_response(status)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in {"Content-Type": "video/mp4", **given}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body) if promised is None else promised))
    request.end_headers()
    request.wfile.write(body)


def test_a_file_arrives_whole_with_its_sums(web: Web, tmp_path: Path) -> None:
    web.answers["/a%20talk.mp4"] = lambda request: _send(request, CONTENT)
    progress: list[float] = []
    directory = tmp_path / "deep" / "er"
    got = fetch(f"{web.url}/a%20talk.mp4?token=1", directory, settings=_settings(), on_progress=progress.append)
    assert got.path.read_bytes() == CONTENT
    assert got == FetchedFile(
        path=directory / "source",
        size_bytes=len(CONTENT),
        md5_base64=base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode(),
        content_type="video/mp4",
        final_url=f"{web.url}/a%20talk.mp4?token=1",
        file_name="a talk.mp4",
    )
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert [path.name for path in directory.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="my talk.mov"', "my talk.mov"),
        ("attachment; filename*=UTF-8''na%C3%AFve.mp4", "naïve.mp4"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\x\\\\y.mp4"', "y.mp4"),
        ("inline", "a.mp4"),
    ],
)
def test_the_servers_name_for_the_file_is_kept_without_any_path(
    web: Web, tmp_path: Path, disposition: str, name: str
) -> None:
    web.answers["/a.mp4"] = lambda request: _send(request, b"x", Content_Disposition=disposition)
    assert _fetch(f"{web.url}/a.mp4", tmp_path).file_name == name


def test_compression_is_not_asked_for(web: Web, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers["Accept-Encoding"])
        _send(request, b"x")

    web.answers["/a.mp4"] = answer
    _fetch(f"{web.url}/a.mp4", tmp_path)
    assert asked == ["identity"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_what_the_server_does_not_have_is_asked_for_once(web: Web, tmp_path: Path, status: int) -> None:
    error = _refused(web.serve_status("/a.mp4", status), tmp_path, SourceNotFound)
    assert str(status) in error.message
    assert web.hits == {"/a.mp4": 1}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_tried_three_times(web: Web, tmp_path: Path, status: int) -> None:
    error = _refused(web.serve_status("/a.mp4", status), tmp_path, SourceUnavailable)
    assert error.retryable
    assert web.hits == {"/a.mp4": 3}


def test_a_server_that_recovers_is_waited_for(web: Web, tmp_path: Path) -> None:
    answers = iter([503, 500, 200])
    web.answers["/a.mp4"] = lambda request: _send(request, CONTENT, status=str(next(answers)))
    assert _fetch(f"{web.url}/a.mp4", tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/xhtml+xml"])
def test_a_page_is_refused_by_its_headers(web: Web, tmp_path: Path, kind: str) -> None:
    """The body is never sent here: who waited for it would time out instead."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _send(request, b"", promised=10_000_000, Content_Type=kind)
        gone.wait(5)

    gone = threading.Event()
    web.answers["/watch"] = answer
    started = time.monotonic()
    error = _refused(f"{web.url}/watch", tmp_path, NotAVideo)
    gone.set()
    assert "web page" in error.message
    assert time.monotonic() - started < 3


def test_a_playlist_and_an_empty_answer_are_no_video(web: Web, tmp_path: Path) -> None:
    web.answers["/a.m3u8"] = lambda request: _send(request, b"#EXTM3U", Content_Type="application/vnd.apple.mpegurl")
    web.answers["/a.mp4"] = lambda request: _send(request, b"")
    assert "playlist" in _refused(f"{web.url}/a.m3u8", tmp_path, NotAVideo).message
    assert "empty" in _refused(f"{web.url}/a.mp4", tmp_path, NotAVideo).message


def test_a_video_larger_than_allowed_is_refused_by_its_headers_or_while_it_comes(web: Web, tmp_path: Path) -> None:
    web.answers["/honest.mp4"] = lambda request: _send(request, b"", promised=10**12)

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(CONTENT)
        except OSError:
            pass

    web.answers["/endless.mp4"] = endless
    for name in ("honest", "endless"):
        _refused(f"{web.url}/{name}.mp4", tmp_path, SourceTooLarge, max_download_bytes=2_500_000)
    assert web.hits == {"/honest.mp4": 1, "/endless.mp4": 1}


def test_a_download_that_breaks_is_resumed_where_it_stopped(web: Web, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers["Range"])
        start = int((asked[-1] or "bytes=0-")[6:-1])
        part = CONTENT[start : start + 400_000]
        headers = {"ETag": '"v1"', "Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        assert start == 0 or request.headers["If-Range"] == '"v1"'
        _send(request, part, promised=len(CONTENT) - start, status="206" if start else "200", **headers)

    web.answers["/a.mp4"] = answer
    got = _fetch(f"{web.url}/a.mp4", tmp_path)
    assert asked == [None, "bytes=400000-", "bytes=800000-"]
    assert got.path.read_bytes() == CONTENT
    assert got.md5_base64 == base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()


def test_a_file_that_changed_between_tries_is_fetched_anew(web: Web, tmp_path: Path) -> None:
    answers = iter([(b"old" * 1000, 9000, '"v1"'), (CONTENT, None, '"v2"')])

    def answer(request: BaseHTTPRequestHandler) -> None:
        body, promised, etag = next(answers)
        _send(request, body, promised=promised, ETag=etag)

    web.answers["/a.mp4"] = answer
    assert _fetch(f"{web.url}/a.mp4", tmp_path).path.read_bytes() == CONTENT


def test_a_server_without_a_validator_is_not_asked_to_resume(web: Web, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers["Range"])
        _send(request, CONTENT[:100_000] if len(asked) == 1 else CONTENT, promised=len(CONTENT))

    web.answers["/a.mp4"] = answer
    assert _fetch(f"{web.url}/a.mp4", tmp_path).path.read_bytes() == CONTENT
    assert asked == [None, None]


def test_a_download_that_always_ends_early_is_incomplete(web: Web, tmp_path: Path) -> None:
    web.answers["/a.mp4"] = lambda request: _send(request, CONTENT[:1000], promised=len(CONTENT))
    error = _refused(f"{web.url}/a.mp4", tmp_path, SourceIncomplete)
    assert error.retryable
    assert web.hits == {"/a.mp4": 3}


def test_redirects_are_followed_to_the_file(web: Web, tmp_path: Path) -> None:
    web.answers["/a"] = lambda request: _send(request, b"", status="302", Location="/b?x=1")
    web.answers["/b"] = lambda request: _send(request, b"", status="308", Location=f"{web.url}/c.mp4")
    web.answers["/c.mp4"] = lambda request: _send(request, b"video")
    got = _fetch(f"{web.url}/a", tmp_path)
    assert (got.final_url, got.file_name) == (f"{web.url}/c.mp4", "c.mp4")


def test_a_redirect_to_https_and_back_is_followed(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_in_front_of(int(web.url.rpartition(":")[2]), tmp_path) as front:
        monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(front.authority))
        secure = f"https://localhost:{front.port}/b"
        web.answers["/a"] = lambda request: _send(request, b"", status="302", Location=secure)
        web.answers["/b"] = lambda request: _send(request, b"", status="302", Location=f"{web.url}/c.mp4")
        web.answers["/c.mp4"] = lambda request: _send(request, b"video")
        assert _fetch(f"{web.url}/a", tmp_path).final_url == f"{web.url}/c.mp4"
    assert web.hits == {"/a": 1, "/b": 1, "/c.mp4": 1}


def test_redirects_without_an_end_are_given_up(web: Web, tmp_path: Path) -> None:
    web.answers["/a"] = lambda request: _send(request, b"", status="302", Location="/a")
    assert "redirects" in _refused(f"{web.url}/a", tmp_path, SourceUnavailable).message


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.com/a.mp4", "http://user:pw@example.com/a.mp4"]
)
def test_a_redirect_to_what_is_not_allowed_is_refused(web: Web, tmp_path: Path, target: str) -> None:
    web.answers["/a"] = lambda request: _send(request, b"", status="302", Location=target)
    _refused(f"{web.url}/a", tmp_path, AddressRefused)


def test_a_redirect_from_a_public_to_a_private_address_is_refused(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public name leads to a server whose answer points into the private network: only the first hop is made.

    The test stands in for DNS and for the public address itself; the second address is checked for real.
    """
    port = int(web.url.rpartition(":")[2])
    web.answers["/a.mp4"] = lambda request: _send(request, b"", status="302", Location="http://inside.example/b.mp4")
    web.answers["/b.mp4"] = lambda request: _send(request, b"secret")
    names = {"public.example": "93.184.215.14", "inside.example": "127.0.0.1"}
    connect = socket.socket.connect

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names[host], port))]

    def reach(self: socket.socket, address: tuple[str, int]) -> None:
        connect(self, ("127.0.0.1", port) if address[0] == "93.184.215.14" else address)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", reach)
    error = _refused("http://public.example/a.mp4", tmp_path, AddressRefused, allow_private_urls=False)
    assert "inside.example" in error.message
    assert web.hits == {"/a.mp4": 1}


def test_private_addresses_are_refused_unless_allowed(web: Web, tmp_path: Path) -> None:
    _refused(f"{web.url}/a.mp4", tmp_path, AddressRefused, allow_private_urls=False)
    assert web.hits == {}


def test_a_silent_server_is_given_up_in_time(web: Web, tmp_path: Path) -> None:
    gone = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        gone.wait(10)

    web.answers["/a.mp4"] = answer
    started = time.monotonic()
    _refused(f"{web.url}/a.mp4", tmp_path, SourceUnavailable, fetch_timeout_seconds=0.2)
    gone.set()
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_drips_is_given_up_although_it_is_never_silent(web: Web, tmp_path: Path, where: str) -> None:
    gone = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n" + (b"\r\n" if where == "body" else b"X-"))
        try:
            while not gone.wait(0.02):
                request.wfile.write(b"a")
                request.wfile.flush()
        except OSError:
            pass

    web.answers["/a.mp4"] = drip
    started = time.monotonic()
    _refused(f"{web.url}/a.mp4", tmp_path, SourceUnavailable, fetch_timeout_seconds=0.2)
    gone.set()
    assert time.monotonic() - started < 5


def test_a_port_nobody_listens_on_is_unavailable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    _refused(f"http://127.0.0.1:{port}/a.mp4", tmp_path, SourceUnavailable)


def test_a_file_that_can_not_fit_is_refused_before_it_is_fetched(web: Web, tmp_path: Path) -> None:
    web.answers["/a.mp4"] = lambda request: _send(request, b"", promised=10**15)
    _refused(f"{web.url}/a.mp4", tmp_path, DiskFull, max_download_bytes=10**16)
    assert web.hits == {"/a.mp4": 1}


def test_a_disk_that_fills_leaves_no_part_behind(web: Web, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the same failing write, from the kernel."""
    import resource
    import signal

    web.answers["/a.mp4"] = lambda request: _send(request, CONTENT)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        _refused(f"{web.url}/a.mp4", tmp_path, DiskFull)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_secrets_in_a_url_are_not_in_its_errors(web: Web, tmp_path: Path) -> None:
    url = web.serve_status("/a.mp4", 403) + "?signature=canary"
    assert "canary" not in str(_refused(url, tmp_path, SourceNotFound).as_dict())


def test_of_a_servers_reason_a_message_has_the_beginning(web: Web, tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(404, "gone " * 12_000)
        request.send_header("Content-Length", "0")
        request.end_headers()

    web.answers["/a.mp4"] = answer
    error = _refused(f"{web.url}/a.mp4", tmp_path, SourceNotFound)
    assert "404 gone gone" in error.message and len(error.message) < 200
