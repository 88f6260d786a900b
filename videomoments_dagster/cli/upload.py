"""A large file on its way to the API: by TUS, so that what a lost connection or a restarted API cuts short goes on
where it ended; with a bar at a terminal."""

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.output import messages
from videomoments_dagster.errors import InvalidInput, VideoMomentsError

RESUMABLE_FROM_BYTES = 64 * 1024**2
"""A smaller file is sent again as fast as it is gone on with."""
_PATH = "/api/uploads"
_HEADERS = {"Tus-Resumable": "1.0.0"}
_BLOCK_BYTES = 256 * 1024
_PATIENCE_SECONDS = 120.0  # without a byte more
_PAUSE_SECONDS = 2.0


def upload(api: Api, file: Path, fields: dict[str, str]) -> Any:
    """Send `file` and return what it was submitted as. Raises VideoMomentsError: InvalidInput when the file can't be
    read, and what the API says when it does not take it, or stays away for two minutes."""
    try:
        with file.open("rb") as source:
            size_bytes = os.fstat(source.fileno()).st_size
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            times = (TransferSpeedColumn(), TimeRemainingColumn())
            with Progress(*columns, *times, console=messages(), disable=not messages().is_terminal) as progress:
                task = progress.add_task(file.name, total=size_bytes)
                return _send(api, source, size_bytes, {"filename": file.name, **fields}, _shown(progress, task))
    except OSError as error:
        raise InvalidInput(f"{file} can't be read: {error.strerror}.") from None


def _send(
    api: Api, source: BinaryIO, size_bytes: int, fields: dict[str, str], show: Callable[[int], None]
) -> dict[str, Any]:
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in fields.items())
    begin = {**_HEADERS, "Upload-Length": str(size_bytes), "Upload-Metadata": metadata}
    path = api.exchange("POST", _PATH, headers=begin).headers["Location"]
    offset, moved_at = 0, time.monotonic()
    while True:
        show(offset)
        rest = _Rest(source, offset, size_bytes, show)
        headers = {**_HEADERS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        try:
            api.exchange("PATCH", path, headers=headers, data=rest if len(rest) else b"", is_long=True)
            return api.get(path)["submitted"]
        except VideoMomentsError as error:
            if not (error.retryable or error.code == "offset_mismatch"):
                raise
            before, offset = offset, _offset(api, path, error, moved_at + _PATIENCE_SECONDS)
            if offset > before:
                moved_at = time.monotonic()


def _offset(api: Api, path: str, failure: VideoMomentsError, end: float) -> int:
    """Where the upload stands, as soon as the API answers. Raises `failure` when it does not until `end`."""
    while time.monotonic() < end:
        time.sleep(_PAUSE_SECONDS)
        try:
            return api.get(path)["offset"]
        except VideoMomentsError as error:
            if not error.retryable:
                raise
    raise failure


def _shown(progress: Progress, task: Any) -> Callable[[int], None]:
    return lambda sent_bytes: progress.update(task, completed=sent_bytes)


class _Rest:
    """The file from `offset` on, of known length and read as it is sent."""

    def __init__(self, source: BinaryIO, offset: int, size_bytes: int, show: Callable[[int], None]) -> None:
        self._source, self._offset, self._size_bytes, self._show = source, offset, size_bytes, show

    def __len__(self) -> int:
        return self._size_bytes - self._offset

    def __iter__(self) -> Iterator[bytes]:
        self._source.seek(self._offset)
        while block := self._source.read(_BLOCK_BYTES):
            yield block
            self._show(self._source.tell())
