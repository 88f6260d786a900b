"""Fetches a video over http(s) into a file: guarded addresses, streamed, and gone on with where it stopped."""

import base64
import errno
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from videomoments_dagster.address_guard import GuardedSession, validate_url
from videomoments_dagster.errors import (
    NO_SPACE,
    AddressRefused,
    DiskFull,
    NotAVideo,
    SourceError,
    SourceIncomplete,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
    VideoMomentsError,
)
from videomoments_dagster.media.pages import fetch_page
from videomoments_dagster.media.partial import Partial, media_type
from videomoments_dagster.processes import Progress
from videomoments_dagster.redaction import redacted
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.temp_files import RESUME

_TRIES = 3
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_TRY_LATER = {408, 425, 429}
_REASON_CHARACTERS = 100
_BLOCK_BYTES = 256 * 1024
_SLOWEST_BYTES_A_SECOND = 1024  # over one whole timeout; a server that drips less holds a place for nothing
_PAGES = {"text/html", "application/xhtml+xml"}
_PLAYLISTS = {
    "application/vnd.apple.mpegurl",
    "application/x-mpegurl",
    "audio/mpegurl",
    "audio/x-mpegurl",
    "application/dash+xml",
}
_RANGE_START, _RANGE_TOTAL = re.compile(r"bytes (\d+)-"), re.compile(r"/(\d+)$")
_DISK_FULL = NO_SPACE | {errno.EFBIG}


@dataclass(frozen=True)
class FetchedFile:
    """A file fetched whole. `md5_base64` is in the form object stores compare; `final_url` is after redirects. A page
    that shows the video gives it a `title`."""

    path: Path
    size_bytes: int
    md5_base64: str
    content_type: str | None
    final_url: str
    file_name: str
    title: str | None = None


class _PageAnsweredError(NotAVideo):
    """No plain file: a web page or a playlist, which may lead to one."""


def fetch(
    url: str,
    directory: Path,
    *,
    settings: Settings | None = None,
    on_progress: Progress | None = None,
    retry_pause_seconds: float = 1.0,
) -> FetchedFile:
    """Fetch `url` into `directory`. Tries three times, each going on where the one before stopped, if it can; so does
    the first, where an earlier call left something. A whole file is not fetched again when the server confirms it.
    Where a page or a playlist answers, the video that it shows is fetched, see pages.py.

    Raises AddressRefused, SourceNotFound, SourceUnavailable, SourceIncomplete, SourceTooLarge, NotAVideo (a page or a
    playlist without a video), or DiskFull; then `directory` has only what can be gone on with. `retry_pause_seconds`
    doubles with each try.
    """
    settings = settings or get_settings()
    validate_url(url, allow_private=settings.allow_private_urls, ports=settings.fetch_ports)
    with _disk_full(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with Partial.opened(directory, url) as part:
                final_url = _download(url, part, settings, on_progress, retry_pause_seconds)
        except _PageAnsweredError as answered:
            if not settings.pages:
                raise NotAVideo(answered.message) from None
            (directory / RESUME).unlink(missing_ok=True)  # what there was is of another time, when this was a file
            return _from_page(url, directory, settings, on_progress)
    return FetchedFile(
        path=part.path,
        size_bytes=part.size_bytes,
        md5_base64=base64.b64encode(part.md5.digest()).decode(),
        content_type=part.source.content_type,
        final_url=final_url,
        file_name=part.source.file_name,
    )


def _from_page(url: str, directory: Path, settings: Settings, on_progress: Progress | None) -> FetchedFile:
    video = fetch_page(url, directory, settings=settings, on_progress=on_progress)
    with video.path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return FetchedFile(
        path=video.path,
        size_bytes=video.path.stat().st_size,
        md5_base64=base64.b64encode(md5.digest()).decode(),
        content_type=None,
        final_url=url,
        file_name=video.path.name,
        title=video.title,
    )


def _download(url: str, part: Partial, settings: Settings, on_progress: Progress | None, pause_seconds: float) -> str:
    """Try until the body is whole; what has arrived is kept between tries. Returns the URL that answered."""
    for tries_left in reversed(range(_TRIES)):
        try:
            with _session(settings) as session, _named_failures(url):
                with _open(session, url, part, settings) as response:
                    if not _is_unchanged(response, part):
                        _check_answer(response, part, settings)
                        _receive(response, part, settings, session, on_progress)
                    elif on_progress:
                        on_progress(1.0)
                return response.url
        except VideoMomentsError as error:
            if not error.retryable or isinstance(error, DiskFull) or not tries_left:
                raise
        threading.Event().wait(pause_seconds)
        pause_seconds *= 2
    raise AssertionError  # the last try returns or raises


def _session(settings: Settings) -> GuardedSession:
    return GuardedSession(allow_private=settings.allow_private_urls, ports=settings.fetch_ports)


def _open(session: GuardedSession, url: str, part: Partial, settings: Settings) -> requests.Response:
    headers = {"Accept": "video/*,audio/*;q=0.8,*/*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "VideoMoments"}
    headers |= part.headers()
    for _ in range(_MOST_REDIRECTS + 1):
        validate_url(url, allow_private=settings.allow_private_urls, ports=settings.fetch_ports)
        with _deadline(session, 2 * settings.fetch_timeout_seconds):  # headers may be dripped too
            response = session.get(url, headers=headers, stream=True, timeout=settings.fetch_timeout_seconds)
        if response.status_code not in _REDIRECTS or not response.headers.get("Location"):
            return response
        session.cookies.clear()
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise SourceUnavailable(f"The server redirects more than {_MOST_REDIRECTS} times.")


def _is_unchanged(response: requests.Response, part: Partial) -> bool:
    """Whether the whole file is here. Some servers do not know conditions, and begin to send what we have."""
    if not part.is_whole:
        return False
    is_same = part.is_same(response.headers) and response.headers.get("Content-Length") == str(part.size_bytes)
    return response.status_code == 304 or (response.status_code == 200 and is_same)


def _check_answer(response: requests.Response, part: Partial, settings: Settings) -> None:
    status, host = response.status_code, urlsplit(response.url).hostname
    if status == 416 and part.size_bytes:
        part.restart()
        raise SourceIncomplete(f"{host} can't resume the download; it starts again.")
    if status in _TRY_LATER or status >= 500:
        raise SourceUnavailable(f"{host} answers {status} {_reason(response)}".strip() + ".")
    if status not in {200, 206}:
        raise SourceNotFound(f"{host} answers {status} {_reason(response)}".strip() + ".")
    kind = media_type(response)
    if kind in _PAGES:
        raise _PageAnsweredError(f"{host} answers with a web page, not with a video.")
    if kind in _PLAYLISTS:
        raise _PageAnsweredError(f"{host} answers with a playlist, not with a video.")
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise SourceUnavailable(f"{host} sends the video compressed, although it was asked not to.")
    if status == 200 or not _continues(response, part):
        if status == 206 and part.size_bytes:
            part.restart()
            raise SourceIncomplete(f"{host} resumed another file, or at another place; it starts again.")
        part.restart()
    expected = _expected_bytes(response, part)
    _check_size(expected or 0, settings)
    missing = (expected or 0) - part.size_bytes
    free = shutil.disk_usage(part.path.parent).free
    if missing > free:
        raise DiskFull(f"The video needs {missing} bytes more; {free} are free.")
    part.begin(response, expected)


def _reason(response: requests.Response) -> str:
    """The server's words for its status, as many as a message needs."""
    return redacted(response.reason or "")[:_REASON_CHARACTERS].strip()


def _continues(response: requests.Response, part: Partial) -> bool:
    """A server may ignore If-Range, and go on with another file."""
    match = _RANGE_START.match(_range_of(response))
    if match is None or int(match[1]) != part.size_bytes:
        return False
    return not part.size_bytes or part.is_same(response.headers, unless_said=True)


def _expected_bytes(response: requests.Response, part: Partial) -> int | None:
    """Of the whole file."""
    length, total = response.headers.get("Content-Length", ""), _RANGE_TOTAL.search(_range_of(response))
    if response.status_code == 206 and total is not None:
        return int(total[1])
    return part.size_bytes + int(length) if length.isdigit() else None


def _range_of(response: requests.Response) -> str:
    return response.headers.get("Content-Range", "")


def _receive(
    response: requests.Response,
    part: Partial,
    settings: Settings,
    session: GuardedSession,
    on_progress: Progress | None,
) -> None:
    """Write the body as it arrives. A body slower than 1 kB/s over a whole timeout is given up."""
    window_ends, window_bytes = time.monotonic() + settings.fetch_timeout_seconds, 0
    expected = part.source.expected_bytes
    while block := response.raw.read1(_BLOCK_BYTES):
        _check_size(part.size_bytes + len(block), settings)
        part.write(block)
        window_bytes += len(block)
        if on_progress and expected:
            on_progress(part.size_bytes / expected)
        if time.monotonic() > window_ends:
            if window_bytes < _SLOWEST_BYTES_A_SECOND * settings.fetch_timeout_seconds:
                session.abort()
                raise SourceUnavailable(f"{urlsplit(response.url).hostname} sends less than 1 kB a second.")
            window_ends, window_bytes = time.monotonic() + settings.fetch_timeout_seconds, 0
    if expected is not None and part.size_bytes != expected:
        raise SourceIncomplete(f"{part.size_bytes} of {expected} bytes came from {urlsplit(response.url).hostname}.")
    if not part.size_bytes:
        raise NotAVideo(f"{urlsplit(response.url).hostname} answers with an empty file.")
    part.finish()


def _check_size(size_bytes: int, settings: Settings) -> None:
    if size_bytes > settings.max_download_bytes:
        raise SourceTooLarge(f"The video has more than {settings.max_download_bytes} bytes.")


@contextmanager
def _deadline(session: GuardedSession, seconds: float) -> Iterator[None]:
    """End what the body asks of the session after `seconds`, with SourceUnavailable."""
    late = threading.Event()
    timer = threading.Timer(seconds, lambda: (late.set(), session.abort()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():  # what is half read may look like an answer
            raise SourceUnavailable("The video's server takes too long to begin its answer.") from None


@contextmanager
def _named_failures(url: str) -> Iterator[None]:
    """Give the HTTP library's errors our names. Messages name the host only: a URL's query may be a secret."""
    host = urlsplit(url).hostname
    try:
        yield
    except requests.exceptions.SSLError:
        hint = "Check the certificate of the server; it is not skipped."
        raise SourceError(f"The TLS certificate of {host} is not valid.", hint=hint) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise AddressRefused(f"{host} leads to something that is not an http(s) URL.") from None
    except requests.exceptions.Timeout:
        raise SourceUnavailable(f"{host} did not answer in time.") from None
    except requests.exceptions.RequestException as error:
        raise SourceUnavailable(f"The connection to {host} broke ({type(error).__name__}).") from None
    except HTTPError as error:
        name = type(error).__name__
        if "Timeout" in name:
            raise SourceUnavailable(f"{host} stopped sending.") from None
        raise SourceIncomplete(f"The connection to {host} broke during the download ({name}).") from None


@contextmanager
def _disk_full(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise DiskFull(f"No space is left in {directory}.") from None
