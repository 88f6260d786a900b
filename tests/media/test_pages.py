"""Pages that show a video: what comes is the video, through the guarded proxy, and nothing of the machine is used."""

import errno
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.media.make import frame_numbers, tones
from tests.web import Answer, Web, serving
from videomoments_dagster.errors import AddressRefused, NotAVideo, SourceNotFound, SourceTooLarge, VideoMomentsError
from videomoments_dagster.media.fetch import FetchedFile, fetch
from videomoments_dagster.media.probe import probe
from videomoments_dagster.settings import get_settings


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def _page(body: str, title: str = "How bread\trises") -> Answer:
    content = f"<html><head><title>{title}</title></head><body>{body}</body></html>".encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/html; charset=utf-8")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def _playlist(*segments: str, ending: str = "#EXT-X-ENDLIST") -> Answer:
    """What yt-dlp has an answer to without asking its thousand extractors whether the page is theirs."""
    lines = [
        "#EXTM3U",
        "#EXT-X-TARGETDURATION:1",
        *(f"#EXTINF:1,\n{segment}" for segment in segments),
        ending,
    ]

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/vnd.apple.mpegurl")
        request.end_headers()
        request.wfile.write("\n".join(lines).encode())

    return answer


def _fetch(url: str, directory: Path, on_progress: Callable[[float], None] | None = None, **fields: Any) -> FetchedFile:
    defaults = {"allow_private_urls": True, "fetch_timeout_seconds": 5.0}
    settings = get_settings().model_copy(update={**defaults, **fields})
    return fetch(url, directory, settings=settings, on_progress=on_progress, retry_pause_seconds=0.0)


def _refused(url: str, directory: Path, kind: type[VideoMomentsError], **fields: Any) -> VideoMomentsError:
    with pytest.raises(kind) as caught:
        _fetch(url, directory, **fields)
    assert list(directory.iterdir()) == []
    assert "canary" not in str(caught.value.as_dict())
    return caught.value


def test_the_video_of_a_page_is_fetched_with_its_title_and_nothing_of_the_user_is_used(
    web: Web, drawn: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's home has a configuration that would start a program, and a plugin; the programs are on the PATH."""
    talk = drawn("talk.mp4", seconds=4.0)
    home, traces = tmp_path / "users-home", tmp_path / "traces"
    traces.mkdir()
    for name in ("yt-dlp/config", "yt-dlp.conf"):
        (home / ".config" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / ".config" / name).write_text(f"--exec 'touch {traces}/exec'\n--proxy ''\n")
    plugin = home / ".config" / "yt-dlp" / "plugins" / "mine" / "yt_dlp_plugins" / "extractor" / "mine.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f"open('{traces}/plugin', 'w')\n")
    for program in ("ffmpeg", "ffprobe", "deno", "aria2c"):
        path = home / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {traces}/{program}\n")
        path.chmod(0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("PATH", str(home / "bin"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    web.serve_file("/media/talk.mp4", talk)
    web.answers["/watch"] = _page('<video src="/media/talk.mp4?signature=canary"></video>')
    progress: list[float] = []
    got = _fetch(f"{web.url}/watch?token=canary", tmp_path / "out", progress.append)
    assert got.path.read_bytes() == talk.read_bytes()
    assert (got.size_bytes, got.title) == (talk.stat().st_size, "How bread rises")
    assert progress == sorted(progress) and progress[-1] == 1.0
    assert web.hits["/media/talk.mp4"] == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["source"]
    assert list(traces.iterdir()) == []


def test_a_plain_file_starts_no_process(web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "talk").write_bytes(b"no page")
    with caplog.at_level("INFO", "videomoments.processes"):
        got = _fetch(web.serve_file("/talk.mp4", tmp_path / "talk"), tmp_path / "out")
        assert caplog.records == []
        _refused(web.serve_status("/gone.mp4", 404), tmp_path / "gone", SourceNotFound)
        assert caplog.records == []
    assert (got.size_bytes, got.title) == (7, None)


def _serve_segments(web: Web, playlist: Path) -> list[Path]:
    web.serve_file(f"/{playlist.name}", playlist, "application/vnd.apple.mpegurl")
    segments = sorted(playlist.parent.glob(f"{playlist.stem}*.ts"))
    for segment in segments:
        web.serve_file(f"/{segment.name}", segment, "video/mp2t")
    return segments


@pytest.mark.parametrize("kind", ["together", "apart"])
def test_segments_become_one_file_that_browsers_play(
    kind: str, web: Web, drawn: Callable[..., Path], tmp_path: Path
) -> None:
    """Picture and sound in the same segments, or, as large sites have it, in two playlists that a third one names."""
    options = (("hls_time", "1"), ("hls_list_size", "0"), ("hls_playlist_type", "vod"))
    sound = drawn("sound.m3u8", seconds=4.0, container="hls", muxing=options)
    segments = _serve_segments(web, sound)
    url = f"{web.url}/{sound.name}"
    if kind == "apart":
        picture = drawn("picture.m3u8", seconds=4.0, container="hls", muxing=options, audio=None)
        segments += _serve_segments(web, picture)
        master = tmp_path / "master.m3u8"
        lines = (
            "#EXTM3U",
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="{sound.name}"',
            '#EXT-X-STREAM-INF:BANDWIDTH=90000,RESOLUTION=160x96,CODECS="avc1.64000b,mp4a.40.2",AUDIO="a"',
            picture.name,
        )
        master.write_text("\n".join(lines))
        url = web.serve_file("/master.m3u8", master, "application/vnd.apple.mpegurl")
    got = _fetch(url, tmp_path / "out")
    info = probe(got.path)
    assert (info.container, info.video_codec, info.audio_codec) == ("mp4", "h264", "aac")
    assert info.duration_seconds == pytest.approx(4.0, abs=0.1)
    frames = frame_numbers(got.path)
    assert [number for _, number in frames] == list(range(100))
    heard = tones(got.path)
    assert [second for _, second in heard] == [0, 1, 2, 3]
    start = frames[0][0]
    assert all(at - start == pytest.approx(second, abs=0.05) for at, second in heard)
    assert {web.hits.get(f"/{segment.name}") for segment in segments} == {1}


def test_a_page_that_leads_to_a_private_address_is_refused_and_nothing_arrives_there(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's own address passes as public: the test stands in for that. What it shows is checked for real."""
    import socket

    from videomoments_dagster import address_guard

    port = int(web.url.rpartition(":")[2])
    genuine, is_public = socket.getaddrinfo, address_guard.is_public

    def resolve(host: str, port: int, *rest: object, **options: object) -> object:
        if host != "public.example":
            return genuine(host, port, *rest, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(address_guard, "is_public", lambda address: str(address) == "127.0.0.2" or is_public(address))
    with serving("127.0.0.2") as public:
        public_port = public.url.rpartition(":")[2]
        public.answers["/watch"] = _playlist(f"http://127.0.0.1:{port}/inside.ts")
        url = f"http://public.example:{public_port}/watch"
        ports = f"{public_port},{port}"
        error = _refused(url, tmp_path / "out", AddressRefused, allow_private_urls=False, configured_fetch_ports=ports)
        assert public.hits["/watch"] >= 2  # by us, and through the proxy
    assert "127.0.0.1" in error.message
    assert web.hits == {}


@pytest.mark.parametrize("kind", ["live stream", "more than one"])
def test_a_live_stream_and_several_videos_are_refused(kind: str, web: Web, tmp_path: Path) -> None:
    web.answers["/live.m3u8"] = _playlist("/a.ts", ending="")
    web.answers["/watch"] = _page(
        '<video src="/live.m3u8?canary"></video>'
        if kind == "live stream"
        else '<video src="/a.mp4?canary"></video><video src="/b.mp4"></video>'
    )
    assert kind in _refused(f"{web.url}/watch?canary", tmp_path / "out", NotAVideo).message
    assert set(web.hits) <= {"/watch", "/live.m3u8"}


def test_a_video_that_is_too_large_is_refused_although_nobody_says_how_large_it_is(web: Web, tmp_path: Path) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):
            while True:
                request.wfile.write(bytes(100_000))

    web.answers |= {"/talk.m3u8": _playlist("/a.ts?canary"), "/a.ts": endless}
    _refused(f"{web.url}/talk.m3u8?canary", tmp_path / "out", SourceTooLarge, max_download_bytes=1_000_000)


def test_a_cancelled_download_ends_its_process_at_once(web: Web, tmp_path: Path) -> None:
    gone = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", "100000000")
        request.end_headers()
        try:
            while not gone.wait(0.01):
                request.wfile.write(bytes(300_000))
        except OSError:
            gone.set()

    class StoppedError(BaseException):
        """Not an error that anybody expects."""

    def stop(done: float) -> None:
        if done > 0:
            raise StoppedError

    web.answers |= {"/talk.m3u8": _playlist("/drip.ts"), "/drip.ts": drip}
    with pytest.raises(StoppedError):
        _fetch(f"{web.url}/talk.m3u8", tmp_path / "out", stop)
    assert gone.wait(5), "the download goes on"
    assert list((tmp_path / "out").iterdir()) == []
    assert [child for child in psutil.Process().children() if "page_child" in " ".join(child.cmdline())] == []


_ATTEMPTS = """
import os, socket, subprocess, sys
from pathlib import Path
from videomoments_dagster.media import page_child

inside = Path(sys.argv[1])
server = socket.create_server(("127.0.0.1", 0))
page_child._confine(inside, server.getsockname()[1], 1000)

def refused(attempt):
    try:
        attempt()
    except PermissionError:
        return True
    except OSError as error:
        return error.errno == 27  # EFBIG

socket.create_connection(server.getsockname())
(inside / "file").write_bytes(b"x" * 1000)
Path("/etc/hostname").exists()
attempts = {
    "another port": lambda: socket.create_connection(("127.0.0.1", 9)),
    "another host": lambda: socket.create_connection(("169.254.169.254", 80)),
    "a name": lambda: socket.getaddrinfo("example.com", 80),
    "a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
    "a local socket": lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock"),
    "a program": lambda: subprocess.run(["true"]),
    "a shell": lambda: os.system("true"),
    "a copy": os.fork,
    "a file elsewhere": lambda: (inside.parent / "file").write_bytes(b"x"),
    "a way out": lambda: (inside / ".." / "file").write_bytes(b"x"),
    "a file away": lambda: (inside / "file").rename(inside.parent / "file"),
    "a directory": lambda: (inside.parent / "other").mkdir(),
    "a link": lambda: (inside.parent / "link").symlink_to(inside),
    "a removal": lambda: (inside.parent / "kept").unlink(),
    "more bytes": lambda: (inside / "file").write_bytes(b"x" * 2000),
}
print([name for name, attempt in attempts.items() if not refused(attempt)])
"""


def test_what_yt_dlp_meets_gets_our_names_and_quotes_no_url() -> None:
    from yt_dlp.networking import Response
    from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
    from yt_dlp.utils import DownloadError, ExtractorError, UnsupportedError

    from videomoments_dagster.media.page_child import _named

    def _info(error: BaseException) -> Any:
        return type(error), error, None

    def answered(status: int) -> HTTPError:
        return HTTPError(Response(io.BytesIO(), "https://cdn.example/v?canary=1", {}, status=status))

    private = ExtractorError("Private video. See https://site.example/help?canary=1 for more", expected=True)
    table: list[tuple[BaseException, str]] = [
        (answered(404), "source_not_found"),
        (answered(429), "source_unavailable"),
        (ExtractorError("canary", cause=answered(503)), "source_unavailable"),
        (IncompleteRead(1), "source_incomplete"),
        (TransportError("canary"), "source_unavailable"),
        (UnsupportedError("https://site.example/?canary=1"), "not_a_video"),
        (private, "not_a_video"),
        (KeyError("canary"), "not_a_video"),
        (OSError(errno.EFBIG, "canary"), "source_too_large"),
        (OSError(errno.ENOSPC, "canary"), "disk_full"),
        (SourceTooLarge("It is large."), "source_too_large"),
    ]
    for met, code in table:
        named = _named(DownloadError("canary", _info(met)), "site.example")
        assert named.code == code, met
        assert "canary" not in str(named.as_dict()) and named.hint
    for said, code in (("HTTP Error 404: Not Found", "source_not_found"), ("timed out", "source_unavailable")):
        assert _named(DownloadError(f"ERROR: [download] Got error: {said}"), "site.example").code == code
    assert "Private video" in _named(DownloadError("", _info(private)), "site.example").message


def test_the_process_can_not_do_what_it_is_not_for(tmp_path: Path) -> None:
    """Whatever yt-dlp or one of its thousand extractors tries."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "kept").touch()
    before = sorted(path.name for path in tmp_path.iterdir())
    command = [sys.executable, "-W", "ignore", "-c", _ATTEMPTS, str(tmp_path / "inside")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
