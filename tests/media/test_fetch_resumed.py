"""A fetch that was cut short is gone on with by the next one, also in another process: no byte is fetched twice, and
none is taken over from another file."""

import base64
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ranges import RangedFile
from tests.web import Web, serving
from videomoments_dagster.errors import SourceIncomplete, SourceUnavailable
from videomoments_dagster.media.fetch import FetchedFile, fetch
from videomoments_dagster.settings import get_settings
from videomoments_dagster.temp_files import RESUME

CONTENT = bytes(range(256)) * 4096  # 1 MB
OTHER = CONTENT[::-1]
HALF = len(CONTENT) // 2
FETCHER = """
import sys
from pathlib import Path
from videomoments_dagster.media.fetch import fetch
from videomoments_dagster.settings import get_settings
settings = get_settings().model_copy(update={"allow_private_urls": True})
fetch(sys.argv[1], Path(sys.argv[2]), settings=settings)
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def _fetch(url: str, directory: Path) -> FetchedFile:
    settings = get_settings().model_copy(update={"allow_private_urls": True, "fetch_timeout_seconds": 5.0})
    got = fetch(url, directory, settings=settings, retry_pause_seconds=0.0)
    content = got.path.read_bytes()
    assert got.size_bytes == len(content)
    assert got.md5_base64 == base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    return got


def _cut_at_half(server: RangedFile, url: str, directory: Path) -> None:
    """The server goes away in the middle, for all tries."""
    server.before_block = lambda sent: sent + (server.sent_bytes > HALF) * HALF < HALF
    with pytest.raises((SourceIncomplete, SourceUnavailable)):
        _fetch(url, directory)
    server.before_block = lambda sent: True
    server.sent_bytes = 0
    server.asked.clear()


def test_a_killed_process_has_fetched_what_it_has_fetched(web: Web, tmp_path: Path) -> None:
    server, is_half, is_dead = RangedFile(CONTENT), threading.Event(), threading.Event()
    url = server.serve(web, "/a.mp4") + "?token=canary"

    def wait_at_half(sent: int) -> bool:
        if sent < HALF:
            return True
        is_half.set()
        return not is_dead.wait(30)

    server.before_block = wait_at_half
    with subprocess.Popen([sys.executable, "-c", FETCHER, url, str(tmp_path)]) as process:
        assert is_half.wait(30)
        part = tmp_path / "source"
        while part.stat().st_size < HALF // 2:  # what was sent is on its way to the disk
            threading.Event().wait(0.01)
        process.kill()
    is_dead.set()
    assert "canary" not in (tmp_path / RESUME).read_text()
    arrived = part.stat().st_size
    server.before_block, server.sent_bytes = (lambda sent: True), 0
    assert _fetch(url, tmp_path).path.read_bytes() == CONTENT
    assert server.sent_bytes == len(CONTENT) - arrived


@pytest.mark.parametrize(
    "server",
    [
        RangedFile(CONTENT),
        RangedFile(CONTENT, etag='W/"1"', modified_seconds_ago=5),
        RangedFile(CONTENT, says_length=False),
        RangedFile(CONTENT, knows_conditions=False),
    ],
    ids=["strong ETag", "Last-Modified", "no length", "a server that knows no conditions"],
)
def test_a_whole_file_is_not_fetched_again(web: Web, tmp_path: Path, server: RangedFile) -> None:
    url = server.serve(web, "/a%20talk.mp4")
    first = _fetch(url, tmp_path)
    server.sent_bytes = 0
    progress: list[float] = []
    settings = get_settings().model_copy(update={"allow_private_urls": True})
    assert fetch(url, tmp_path, settings=settings, on_progress=progress.append) == first
    assert first.file_name == "a talk.mp4"
    assert progress == [1.0]
    assert server.sent_bytes == 0 or not server.knows_conditions, "what it begins to send is not read"


def test_a_part_is_gone_on_with_where_it_ends(web: Web, tmp_path: Path) -> None:
    for number, server in enumerate((RangedFile(CONTENT), RangedFile(CONTENT, etag=None, modified_seconds_ago=5))):
        directory = tmp_path / str(number)
        url = server.serve(web, "/a.mp4")
        _cut_at_half(server, url, directory)
        arrived = (directory / "source").stat().st_size
        assert _fetch(url, directory).path.read_bytes() == CONTENT
        assert server.sent_bytes == len(CONTENT) - arrived
        assert [each["Range"] for each in server.asked] == [f"bytes={arrived}-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(web: Web, tmp_path: Path) -> None:
    """Also where the server goes on with the new one at the place where the old one ended."""
    for number, server in enumerate((RangedFile(CONTENT), RangedFile(CONTENT, knows_conditions=False))):
        for is_whole in (True, False):
            directory = tmp_path / f"{number}-{is_whole}"
            server.content, server.etag = CONTENT, '"v1"'
            url = server.serve(web, "/a.mp4")
            if is_whole:
                _fetch(url, directory)
            else:
                _cut_at_half(server, url, directory)
            server.content, server.etag = OTHER, '"v2"'
            assert _fetch(url, directory).path.read_bytes() == OTHER


@pytest.mark.parametrize("why", ["no validator", "changed within a second", "another URL", "another boot", "garbage"])
def test_what_may_be_of_another_file_is_not_gone_on_with(web: Web, tmp_path: Path, why: str) -> None:
    server, directory = RangedFile(CONTENT), tmp_path / "out"
    if why == "no validator":
        server.etag = None
    elif why == "changed within a second":
        server.etag, server.modified_seconds_ago = None, 0.0
    url = server.serve(web, "/a.mp4")
    _cut_at_half(server, url, directory)
    if server.etag is None:
        assert list(directory.iterdir()) == [], "it is of no use"
    elif why == "another URL":
        url = server.serve(web, "/b.mp4")
    elif why == "another boot":
        kept = json.loads((directory / RESUME).read_text())
        (directory / RESUME).write_text(json.dumps({**kept, "boot": "before"}))
    else:
        (directory / RESUME).write_text("{")
    assert _fetch(url, directory).path.read_bytes() == CONTENT
    assert server.sent_bytes == len(CONTENT)
    assert server.asked == [{}]
