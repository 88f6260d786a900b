"""What has arrived of a download: the file, and beside it what a later attempt needs to go on where it stopped."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import psutil
import requests

from videomoments_dagster.temp_files import RESUME

_STRONG_AFTER_SECONDS = 1  # RFC 9110, 8.8.2.2: a file may change twice within the second that Last-Modified names


@dataclass(frozen=True)
class Source:
    """What the bytes belong to. The URL is kept as a digest only: it may carry a secret.

    `boot` is the machine's: what was written survives its process, but not a loss of power. `validator` is a strong
    ETag or Last-Modified; without one, bytes that come later may be another file's.
    """

    url_sha256: str
    boot: str
    validator: str | None = None
    expected_bytes: int | None = None
    content_type: str | None = None
    file_name: str = "video"


@dataclass
class Partial:
    """Made by `opened`."""

    path: Path
    source: Source
    file: IO[bytes]
    size_bytes: int = 0
    md5: "hashlib._Hash" = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    @classmethod
    @contextmanager
    def opened(cls, directory: Path, url: str) -> Iterator["Partial"]:
        """What `directory` has of `url`, from its start where that is nothing. When the body fails, the file stays only
        if it can be gone on with. Raises OSError."""
        path = directory / "source"
        path.touch()
        fresh = Source(hashlib.sha256(url.encode()).hexdigest(), _boot())
        try:
            with path.open("r+b") as file:
                part = cls(path, fresh, file)
                kept = _read(directory / RESUME)
                if kept and (kept.url_sha256, kept.boot) == (fresh.url_sha256, fresh.boot):
                    part.source = kept
                    part.md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
                    part.size_bytes = file.tell()
                if part.size_bytes > (part.source.expected_bytes or part.size_bytes) or not part.source.validator:
                    part.restart()
                yield part
        except BaseException:
            if not (directory / RESUME).exists():
                path.unlink(missing_ok=True)
            raise

    @property
    def is_whole(self) -> bool:
        return self.size_bytes > 0 and self.size_bytes == self.source.expected_bytes

    def headers(self) -> dict[str, str]:
        """Of the request: for what is missing, or whether what is here is still right."""
        validator = self.source.validator
        if not self.size_bytes or not validator:
            return {}
        if not self.is_whole:
            return {"Range": f"bytes={self.size_bytes}-", "If-Range": validator}
        return {"If-None-Match" if _is_etag(validator) else "If-Modified-Since": validator}

    def is_same(self, headers: Mapping[str, str], *, unless_said: bool = False) -> bool:
        """Whether an answer is about the file that these bytes are of; `unless_said` is for one that does not tell."""
        validator = self.source.validator
        said = headers.get("ETag" if _is_etag(validator or "") else "Last-Modified")
        return validator == said if said else unless_said

    def restart(self) -> None:
        self._resume.unlink(missing_ok=True)
        self.file.seek(0)
        self.file.truncate()
        self.size_bytes, self.md5 = 0, hashlib.md5(usedforsecurity=False)
        self.source = Source(self.source.url_sha256, self.source.boot)

    def begin(self, response: requests.Response, expected_bytes: int | None) -> None:
        """Note what the bytes are of that follow. Raises OSError."""
        self.source = Source(
            self.source.url_sha256,
            self.source.boot,
            _validator(response.headers),
            expected_bytes,
            media_type(response),
            _file_name(response),
        )
        self._note()

    def write(self, block: bytes) -> None:
        self.file.write(block)
        self.md5.update(block)
        self.size_bytes += len(block)

    def finish(self) -> None:
        """All has arrived. Raises OSError."""
        self.file.flush()
        if self.source.expected_bytes is None:  # the server did not say
            self.source = replace(self.source, expected_bytes=self.size_bytes)
            self._note()

    @property
    def _resume(self) -> Path:
        return self.path.with_name(RESUME)

    def _note(self) -> None:
        if self.source.validator:
            fresh = self.path.with_name(f".{RESUME}")
            fresh.write_text(json.dumps(asdict(self.source)))
            fresh.replace(self._resume)


def media_type(response: requests.Response) -> str | None:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None


def _read(path: Path) -> Source | None:
    try:
        return Source(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{psutil.boot_time():.0f}"


def _is_etag(validator: str) -> bool:
    """A strong one: weak ones begin with W/."""
    return validator.startswith('"')


def _validator(headers: Mapping[str, str]) -> str | None:
    if _is_etag(etag := headers.get("ETag", "")):
        return etag
    changed = headers.get("Last-Modified")
    with suppress(KeyError, ValueError, TypeError):
        age = parsedate_to_datetime(headers["Date"]) - parsedate_to_datetime(changed or "")
        if age.total_seconds() >= _STRONG_AFTER_SECONDS:
            return changed
    return None


def _file_name(response: requests.Response) -> str:
    """The name the server gives the file, or its URL's last part; never a path."""
    message = Message()
    message["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    name = message.get_filename() or unquote(urlsplit(response.url).path)
    return re.split(r"[/\\]", name.rstrip("/"))[-1][:255] or "video"
