"""A multipart/form-data body with one file, of known length and read as it is sent, which requests can't do alone."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from videomoments_dagster.processes import Progress

_BLOCK_BYTES = 64 * 1024


class MultipartFile:
    """Give it to requests as `data`, with `content_type` as the Content-Type. It can be sent once.

    `on_progress` is told the share that is sent, 0..1. Raises OSError when the file can't be opened.
    """

    def __init__(
        self,
        file: Path,
        fields: Mapping[str, str] | None = None,
        *,
        file_type: str = "application/octet-stream",
        on_progress: Progress | None = None,
    ) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        name = file.name.replace("\\", "_").replace('"', "%22").replace("\r", "").replace("\n", "")
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in (fields or {}).items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {file_type}\r\n\r\n"
        )
        self._head, self._tail = "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()
        self._file, self._on_progress = file.open("rb"), on_progress
        self._length = len(self._head) + file.stat().st_size + len(self._tail)

    def close(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        sent_bytes = 0
        with self._file:
            for block in self._blocks():
                yield block
                sent_bytes += len(block)
                if self._on_progress:
                    self._on_progress(sent_bytes / self._length)

    def _blocks(self) -> Iterator[bytes]:
        yield self._head
        while block := self._file.read(_BLOCK_BYTES):
            yield block
        yield self._tail
