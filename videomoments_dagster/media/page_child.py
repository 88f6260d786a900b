"""The child process that asks a page for its video with yt-dlp: `python -m videomoments_dagster.media.page_child`,
started by `pages.py` only. It reaches nothing but our proxy, starts no program and writes into its directory only."""

import errno
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yt_dlp
from yt_dlp import globals as yt_dlp_globals
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, RequestError
from yt_dlp.utils import ExtractorError, UnsupportedError, YoutubeDLError

from videomoments_dagster.errors import (
    NO_SPACE,
    DiskFull,
    NotAVideo,
    SourceIncomplete,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
    VideoMomentsError,
)
from videomoments_dagster.processes import Progress, serve_child
from videomoments_dagster.redaction import redacted

_EXTENSIONS = {"mp4", "m4v", "mov", "webm", "mkv", "ts", "avi", "flv", "ogv", "m4a", "weba", "mp3", "ogg"}
_PROTOCOLS = {"http", "https", "m3u8", "m3u8_native", "http_dash_segments"}
# One file where it is good; else picture and sound by themselves; else whatever there is
_FORMAT = "best[height>=?720]/(bestvideo,bestaudio)/best/bestvideo"
_SORTED = ["res:1080", "vcodec:h264", "acodec:aac", "ext:mp4:m4a"]
_NUMBERING = {"Generic", "HTML5MediaEmbed"}  # they number what a page shows, although it is one
_TRY_LATER = {408, 425, 429}
_GOT_ERROR = re.compile(r"Got error: (?:HTTP Error (\d{3}))?")
_REASON_CHARACTERS = 160
_MOST_WRAPPINGS = 3
_LONGEST_PLAYLIST_BYTES = 16 * 1024**2
_LIVE = {"is_live", "is_upcoming", "post_live"}
_PROGRAMS = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "pty.")
_NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
_CONNECTS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_CHANGES = {  # how many of an event's arguments are paths that it changes
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1,
    "os.symlink": 2, "os.truncate": 1, "os.utime": 1,
}  # fmt: skip
_YT_DLP = Path(yt_dlp.__file__).resolve().parent
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_HINT = "Give the address of the video file itself, or of a page with one video; sites change: a newer yt-dlp may know."


def fetch_page(
    url: str, directory: str, proxy_url: str, proxy_port: int, max_bytes: int, timeout_seconds: float,
    on_progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The `paths` of what came (one file, or picture and sound), and the page's `title`. Raises NotAVideo and
    SourceErrors."""
    host = urlsplit(url).hostname or ""
    _confine(Path(directory), proxy_port, max_bytes)
    yt_dlp_globals.plugin_dirs.value = []
    options: dict[str, Any] = {
        "proxy": proxy_url,
        "socket_timeout": timeout_seconds,
        "format": _FORMAT,
        "format_sort": _SORTED,
        "outtmpl": {"default": f"{directory}/%(autonumber)d.%(ext)s"},
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "playlist_items": "1-2",
        "skip_unavailable_fragments": False,
        "hls_prefer_native": True,
        "external_downloader": {"default": "native"},
        "fixup": "never",
        "js_runtimes": {},
        "cachedir": False,
        "updatetime": False,
        "quiet": True,
        "noprogress": True,
        "color": "never",
        "retries": 3,
        "fragment_retries": 3,
        "extractor_retries": 1,
        "progress_hooks": [_reporter(on_progress, max_bytes, expected := [1])],
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:  # pyright: ignore[reportArgumentType]
            ydl: Any = downloader  # its types are of literal dicts
            info = _one_video(ydl, url, host)
            chosen = info.get("requested_downloads") or [info]
            if any(_is_unfinished(ydl, each) for each in chosen):
                raise _live(host)
            expected[0] = len(chosen)
            done = ydl.process_ie_result(ydl.sanitize_info(info, remove_private_keys=True), download=True)
    except (YoutubeDLError, OSError) as error:
        raise _named(error, host) from None
    paths = [download["filepath"] for download in (done or {}).get("requested_downloads") or []]
    if not paths or not all(Path(path).is_file() for path in paths):
        raise NotAVideo(f"The page of {host} names a video that can't be fetched.", hint=_HINT)
    title = str(done.get("title") or "")
    if str(done.get("id")).endswith("-1") and done.get("extractor_key") in _NUMBERING:
        title = title.removesuffix(" (1)")
    return {"paths": paths, "title": title}


def _one_video(ydl: Any, url: str, host: str) -> dict[str, Any]:
    """What the page says about its video, with the formats that we take. Raises NotAVideo."""
    info: Any = ydl.extract_info(url, download=False)
    for _ in range(_MOST_WRAPPINGS):
        if not info or (info.get("_type") or "video") not in {"playlist", "multi_video"}:
            break
        entries = list(info.get("entries") or ())
        if len(entries) > 1:
            raise NotAVideo(f"The page of {host} shows more than one video.", hint=_HINT)
        info = ydl.process_ie_result(entries[0], download=False) if entries else None
    if not info or (info.get("_type") or "video") != "video":
        raise NotAVideo(f"The page of {host} shows no video that can be fetched.", hint=_HINT)
    if info.get("is_live") or info.get("live_status") in _LIVE:
        raise _live(host)
    formats = info.get("formats") or [info]
    taken = [each for each in formats if each.get("ext") in _EXTENSIONS and each.get("protocol") in _PROTOCOLS]
    if not taken:
        raise NotAVideo(f"The page of {host} shows no video in a format that is known here.", hint=_HINT)
    return {**info, "formats": taken}


def _is_unfinished(ydl: Any, chosen: dict[str, Any]) -> bool:
    """Whether a list of segments may still grow: not every extractor looks."""
    if not str(chosen.get("protocol")).startswith("m3u8"):
        return False
    with ydl.urlopen(Request(chosen["url"], headers=chosen.get("http_headers") or {})) as response:
        text = response.read(_LONGEST_PLAYLIST_BYTES).decode(errors="replace")
    return "#EXTINF" in text and "#EXT-X-ENDLIST" not in text and "#EXT-X-PLAYLIST-TYPE:VOD" not in text


def _live(host: str) -> NotAVideo:
    return NotAVideo(f"The page of {host} shows a live stream, which has no end.", hint="Submit its recording.")


def _reporter(on_progress: Progress, max_bytes: int, expected: list[int]) -> Callable[[dict[str, Any]], None]:
    """Tells how much has come of `expected[0]` files, and ends what gets too large."""
    files: dict[str, float] = {}
    said = 0.0

    def report(state: dict[str, Any]) -> None:
        nonlocal said
        come, total = state.get("downloaded_bytes") or 0, state.get("total_bytes") or 0
        if max(come, total) > max_bytes:
            raise SourceTooLarge(f"The video has more than {max_bytes} bytes.")
        total = total or state.get("total_bytes_estimate") or 0
        files[state["filename"]] = 1.0 if state["status"] == "finished" else min(come / total, 1.0) if total else 0.0
        done = min(sum(files.values()) / max(expected[0], len(files)), 1.0)
        if done >= said + 0.01:
            said = done
            on_progress(done)

    return report


def _confine(directory: Path, proxy_port: int, max_bytes: int) -> None:
    """From here on this process connects to the proxy only, resolves no name, starts no program, and changes no file
    elsewhere. What yt-dlp is told leads there as well; this is for what it may overlook."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    inside, proxy = str(directory.resolve()), ("127.0.0.1", proxy_port)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        changed = arguments[: _CHANGES.get(event, 0)]
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            changed = arguments[:1]
        is_refused = (
            event.startswith(_PROGRAMS)
            or (event in _CONNECTS and arguments[1] != proxy)
            or (event in _NAMES and arguments[0] != proxy[0])
            or not all(_is_inside(path, inside) for path in changed)
        )
        if is_refused:
            raise PermissionError(errno.EPERM, f"{event} is not allowed here")

    sys.addaudithook(refuse)


def _is_inside(path: Any, inside: str) -> bool:
    """Or Python's own copy of a module of yt-dlp: it has a thousand, and compiling them anew takes seconds."""
    if isinstance(path, int) or path == os.devnull:
        return True
    real = Path(os.path.realpath(os.fsdecode(path)))
    return real.is_relative_to(inside) or (real.is_relative_to(_YT_DLP) and "__pycache__" in real.parts)


def _named(error: Exception, host: str) -> VideoMomentsError:
    """Our name for what yt-dlp met. Its own text quotes URLs."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, VideoMomentsError):
            return cause
        if isinstance(cause, OSError) and cause.errno == errno.EFBIG:
            return SourceTooLarge("The video is larger than is fetched.")
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return DiskFull("No space is left for the video.")
        if isinstance(cause, HTTPError):
            return _answered(cause.status, host)
        if isinstance(cause, IncompleteRead):
            return SourceIncomplete(f"The connection to {host} broke during the download.")
    if any(isinstance(cause, UnsupportedError) for cause in causes):
        return NotAVideo(f"The page of {host} shows no video that can be fetched.", hint=_HINT)
    if any(isinstance(cause, RequestError) for cause in causes):
        return SourceUnavailable(f"{host} did not answer as it should, or not in time.")
    if got := _GOT_ERROR.search(str(error)):  # of a segment: its cause is not handed on
        return _answered(int(got[1]), host) if got[1] else SourceUnavailable(f"{host} did not answer as it should.")
    said = next((cause.orig_msg for cause in causes if isinstance(cause, ExtractorError) and cause.expected), "")
    reason = redacted(re.sub(r"\S*://\S*|\s+", " ", said or "")).strip()[:_REASON_CHARACTERS]
    return NotAVideo(f"The page of {host} shows no video that can be fetched. {reason}".strip(), hint=_HINT)


def _answered(status: int, host: str) -> VideoMomentsError:
    kind = SourceUnavailable if status in _TRY_LATER or status >= 500 else SourceNotFound
    return kind(f"{host} answers {status} where its page or its video should be.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What is behind an error, nearest first, each once."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            exc_info = getattr(cause, "exc_info", None) or (None, None)
            waiting += [exc_info[1], getattr(cause, "cause", None), cause.__cause__, cause.__context__]


if __name__ == "__main__":
    serve_child({"fetch_page": fetch_page})
