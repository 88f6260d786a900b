"""Fetches the one video that a page shows, with yt-dlp in a process of its own behind a proxy that guards addresses.

The process knows nothing of this machine's user: no configuration, no cookies, no plugins, no programs. See
docs/addresses.md.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from videomoments_dagster.errors import (
    AddressRefused,
    MediaTimeout,
    SourceError,
    SourceTooLarge,
    SourceUnavailable,
    VideoMomentsError,
)
from videomoments_dagster.guarded_proxy import GuardedProxy
from videomoments_dagster.media.runner import run_media
from videomoments_dagster.processes import Progress, run_child
from videomoments_dagster.settings import Settings

_CHILD = "videomoments_dagster.media.page_child"
_TITLE_CHARACTERS = 500
_PAGES_BYTES = 64 * 1024**2
"""What may come besides the video: pages, playlists, and what is asked for twice."""


@dataclass(frozen=True)
class PageVideo:
    """A video that a page shows: one file, and the title that the page gives it."""

    path: Path
    title: str | None


def fetch_page(url: str, directory: Path, *, settings: Settings, on_progress: Progress | None = None) -> PageVideo:
    """Fetch the video of the page at `url` into `directory`, from its beginning.

    Raises AddressRefused (also when the page leads to an address that is refused), SourceNotFound, SourceUnavailable,
    SourceIncomplete, SourceTooLarge, DiskFull, or NotAVideo: no video that can be fetched, several, or a live stream.
    """
    host = urlsplit(url).hostname or ""
    place = directory / "page"
    shutil.rmtree(place, ignore_errors=True)  # of an attempt that was killed
    place.mkdir(parents=True)
    try:
        answer = _ask(url, host, place.absolute(), settings, on_progress)
        path = directory / "source"
        _as_one([Path(each) for each in answer["paths"]], path)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if path.stat().st_size > settings.max_download_bytes:
        raise SourceTooLarge(f"The video has more than {settings.max_download_bytes} bytes.")
    return PageVideo(path, _line(answer["title"]))


def _ask(url: str, host: str, place: Path, settings: Settings, on_progress: Progress | None) -> dict[str, Any]:
    with GuardedProxy(
        allow_private=settings.allow_private_urls,
        ports=settings.fetch_ports,
        max_bytes=settings.max_download_bytes + _PAGES_BYTES,
        idle_seconds=settings.fetch_timeout_seconds,
    ) as proxy:
        arguments = {
            "url": url,
            "directory": str(place),
            "proxy_url": proxy.url,
            "proxy_port": proxy.port,
            "max_bytes": settings.max_download_bytes,
            "timeout_seconds": settings.fetch_timeout_seconds,
        }
        try:
            return run_child(
                _CHILD,
                {"operation": "fetch_page", "arguments": arguments},
                timeout_seconds=settings.media_timeout_seconds,
                memory_bytes=settings.media_memory_bytes,
                on_progress=on_progress,
                environment=_environment(place),
            )
        except MediaTimeout:
            took = f"The video of {host} did not come within {settings.media_timeout_seconds:.0f} s."
            raise SourceUnavailable(took) from None
        except VideoMomentsError as error:
            raise _refusal(proxy) or error from None


def _refusal(proxy: GuardedProxy) -> VideoMomentsError | None:
    """What the proxy knows better: to yt-dlp all its refusals look like a server's answers."""
    for kind in (AddressRefused, SourceTooLarge, SourceError):
        for refusal in proxy.refusals:
            if isinstance(refusal, kind):
                return refusal
    return None


def _environment(place: Path) -> dict[str, str]:
    """Nothing of ours but the way to this Python's own libraries: where a home, programs and a configuration would be
    looked for, there is nothing."""
    library_path = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    empty = str(place)
    return {
        **library_path,
        "HOME": empty,
        "PATH": empty,
        "TMPDIR": empty,
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
    }


def _line(title: str) -> str | None:
    """A page's words as one line that a row can hold."""
    shown = "".join(character if character.isprintable() else " " for character in title)
    return " ".join(shown.split())[:_TITLE_CHARACTERS].strip() or None


def _as_one(paths: list[Path], destination: Path) -> None:
    """Separate picture and sound are brought together; a transport stream becomes a file that browsers play."""
    if len(paths) == 1 and not _is_transport_stream(paths[0]):
        paths[0].replace(destination)
        return
    run_media("merge", paths=paths, destination=destination)


def _is_transport_stream(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(189)
    return head[0:1] + head[188:189] == b"\x47\x47"
