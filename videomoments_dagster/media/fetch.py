"""Fetches a video over http(s) into a file: guarded addresses, streamed, resumed, and never half there at the end."""

import base64
import errno
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from videomoments_dagster.errors import (
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
from videomoments_dagster.media.guard import GuardedSession, validate_url
from videomoments_dagster.processes import Progress
from videomoments_dagster.settings import Settings, get_settings

_TRIES = 3
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_TRY_LATER = {408, 425, 429}
_BLOCK_BYTES = 256 * 1024
_SLOWEST_BYTES_A_SECOND = 1024  # over one whole timeout; a server that drips less holds a place for nothing
_PAGES = {"text/html", "application/xhtml+xml"}
_PLAYLISTS = {"application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "application/dash+xml"}
_RANGE_START, _RANGE_TOTAL = re.compile(r"bytes (\d+)-"), re.compile(r"/(\d+)$")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class FetchedFile:
    """A file fetched whole. `md5_base64` is in the form object stores compare; `final_url` is after redirects."""

    path: Path
    size_bytes: int
    md5_base64: str
    content_type: str | None
    final_url: str
    file_name: str


@dataclass
class _Download:
    """What has arrived so far, over all tries."""

    file: IO[bytes]
    size_bytes: int = 0
    expected_bytes: int | None = None
    validator: str | None = None  # strong ETag or Last-Modified: without one a resumed part may be of another file
    digest: "hashlib._Hash" = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size_bytes, self.expected_bytes, self.validator = 0, None, None
        self.digest = hashlib.md5(usedforsecurity=False)

    def write(self, block: bytes) -> None:
        self.file.write(block)
        self.digest.update(block)
        self.size_bytes += len(block)


def fetch(
    url: str,
    destination: Path,
    *,
    settings: Settings | None = None,
    on_progress: Progress | None = None,
    retry_pause_seconds: float = 1.0,
) -> FetchedFile:
    """Fetch `url` to `destination`, which appears only when it is whole. Tries three times, resuming where it can.

    Raises AddressRefused, SourceNotFound, SourceUnavailable, SourceIncomplete, SourceTooLarge, NotAVideo (a page or a
    playlist answered), or DiskFull. `retry_pause_seconds` doubles with each try.
    """
    settings = settings or get_settings()
    validate_url(url, allow_private=settings.allow_private_urls)
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f".{destination.name}.part")
    try:
        with _disk_full(destination), temporary.open("w+b") as file:
            download = _Download(file)
            answer = _download(url, download, settings, on_progress, retry_pause_seconds)
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)
    return FetchedFile(
        path=destination,
        size_bytes=download.size_bytes,
        md5_base64=base64.b64encode(download.digest.digest()).decode(),
        content_type=_media_type(answer),
        final_url=answer.url,
        file_name=_file_name(answer),
    )


def _download(
    url: str, download: _Download, settings: Settings, on_progress: Progress | None, pause_seconds: float
) -> requests.Response:
    """Try until the body is whole; what has arrived is kept between tries."""
    for tries_left in reversed(range(_TRIES)):
        try:
            with GuardedSession(allow_private=settings.allow_private_urls) as session, _named_failures(url):
                with _open(session, url, download, settings) as response:
                    _check_answer(response, download, settings)
                    _receive(response, download, settings, session, on_progress)
                return response
        except VideoMomentsError as error:
            if not error.retryable or isinstance(error, DiskFull) or not tries_left:
                raise
        threading.Event().wait(pause_seconds)
        pause_seconds *= 2
    raise AssertionError  # the last try returns or raises


def _open(session: GuardedSession, url: str, download: _Download, settings: Settings) -> requests.Response:
    headers = {"Accept": "video/*,audio/*;q=0.8,*/*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "VideoMoments"}
    if download.size_bytes and download.validator:
        headers |= {"Range": f"bytes={download.size_bytes}-", "If-Range": download.validator}
    for _ in range(_MOST_REDIRECTS + 1):
        validate_url(url, allow_private=settings.allow_private_urls)
        with _deadline(session, 2 * settings.fetch_timeout_seconds):  # headers may be dripped too
            response = session.get(
                url, headers=headers, stream=True, timeout=settings.fetch_timeout_seconds, allow_redirects=False
            )
        if response.status_code not in _REDIRECTS or not response.headers.get("Location"):
            return response
        session.cookies.clear()
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise SourceUnavailable(f"The server redirects more than {_MOST_REDIRECTS} times.")


def _check_answer(response: requests.Response, download: _Download, settings: Settings) -> None:
    status, host = response.status_code, urlsplit(response.url).hostname
    if status == 416 and download.size_bytes:
        download.restart()
        raise SourceIncomplete(f"{host} can't resume the download; it starts again.")
    if status in _TRY_LATER or status >= 500:
        raise SourceUnavailable(f"{host} answers {status} {response.reason or ''}".strip() + ".")
    if status not in {200, 206}:
        raise SourceNotFound(f"{host} answers {status} {response.reason or ''}".strip() + ".")
    kind = _media_type(response)
    if kind in _PAGES:
        raise NotAVideo(f"{host} answers with a web page, not with a video.")
    if kind in _PLAYLISTS:
        raise NotAVideo(f"{host} answers with a playlist, not with a video.")
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise SourceUnavailable(f"{host} sends the video compressed, although it was asked not to.")
    if status == 200 or not _continues(response, download):
        if status == 206 and download.size_bytes:
            download.restart()
            raise SourceIncomplete(f"{host} resumed at another place; it starts again.")
        download.restart()
    length, total = response.headers.get("Content-Length", ""), _RANGE_TOTAL.search(_range_of(response))
    if status == 206 and total is not None:
        download.expected_bytes = int(total[1])
    elif length.isdigit():
        download.expected_bytes = download.size_bytes + int(length)
    etag = response.headers.get("ETag", "")
    download.validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    _check_size(download.expected_bytes or 0, settings)
    missing = (download.expected_bytes or 0) - download.size_bytes
    free = shutil.disk_usage(Path(download.file.name).parent).free
    if missing > free:
        raise DiskFull(f"The video needs {missing} bytes more; {free} are free.")


def _continues(response: requests.Response, download: _Download) -> bool:
    match = _RANGE_START.match(_range_of(response))
    return match is not None and int(match[1]) == download.size_bytes


def _range_of(response: requests.Response) -> str:
    return response.headers.get("Content-Range", "")


def _receive(
    response: requests.Response,
    download: _Download,
    settings: Settings,
    session: GuardedSession,
    on_progress: Progress | None,
) -> None:
    """Write the body as it arrives. A body slower than 1 kB/s over a whole timeout is given up."""
    window_ends, window_bytes = time.monotonic() + settings.fetch_timeout_seconds, 0
    while block := response.raw.read1(_BLOCK_BYTES):
        _check_size(download.size_bytes + len(block), settings)
        download.write(block)
        window_bytes += len(block)
        if on_progress and download.expected_bytes:
            on_progress(download.size_bytes / download.expected_bytes)
        if time.monotonic() > window_ends:
            if window_bytes < _SLOWEST_BYTES_A_SECOND * settings.fetch_timeout_seconds:
                session.abort()
                raise SourceUnavailable(f"{urlsplit(response.url).hostname} sends less than 1 kB a second.")
            window_ends, window_bytes = time.monotonic() + settings.fetch_timeout_seconds, 0
    if download.expected_bytes is not None and download.size_bytes != download.expected_bytes:
        raise SourceIncomplete(
            f"{download.size_bytes} of {download.expected_bytes} bytes came from {urlsplit(response.url).hostname}."
        )
    if not download.size_bytes:
        raise NotAVideo(f"{urlsplit(response.url).hostname} answers with an empty file.")
    download.file.flush()


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
def _disk_full(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise DiskFull(f"No space is left in {destination.parent}.") from None


def _media_type(response: requests.Response) -> str | None:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None


def _file_name(response: requests.Response) -> str:
    """The name the server gives the file, or its URL's last part; never a path."""
    message = Message()
    message["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    name = message.get_filename() or unquote(urlsplit(response.url).path)
    return re.split(r"[/\\]", name.rstrip("/"))[-1][:255] or "video"
