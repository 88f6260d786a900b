"""The one storage interface: named objects with size and MD5, streamed files, signed URLs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store has it. `md5` is base64, as GCS writes it; `generation` grows with every overwrite, and
    `updated_at` is when this one was written."""

    name: str
    size_bytes: int
    md5: str
    content_type: str
    generation: int
    updated_at: datetime

    @property
    def size_kb(self) -> int:
        """Size in units of 1024 bytes, rounded up: what the rows' `file_size_kb` hold."""
        return -(-self.size_bytes // 1024)


class ObjectStore(Protocol):
    """A bucket. Names are relative paths without '.', '..' or empty parts. Methods raise StorageError or a subclass.

    `put_file` and `put_bytes` verify size and MD5 of what the store holds before they return (ObjectMismatch), and
    leave the old object in place when they fail.
    """

    signs_at_once: bool
    """Whether `signed_url` takes microseconds and asks nobody."""

    def put_file(self, name: str, path: Path, content_type: str, *, is_final: bool = False) -> StoredObject:
        """Store what is at `path`; it stays the caller's. `is_final` promises that nobody writes to the file any more:
        a store on the same disk then shares it instead of copying it."""
        ...

    def put_bytes(self, name: str, data: bytes, content_type: str) -> StoredObject: ...

    def stat(self, name: str) -> StoredObject | None: ...

    def require(self, name: str) -> StoredObject:
        """`stat`, but raises ObjectMissing."""
        ...

    def local_copy(self, name: str, directory: Path) -> AbstractContextManager[Path]:
        """The object as a local file to read: in place when the store is local, else streamed into `directory` and
        removed afterwards. Raises ObjectMissing."""
        ...

    def delete(self, name: str) -> bool:
        """True when there was something to delete."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Objects whose names start with `prefix`, in the order of their names by code point, as they are taken."""
        ...

    def cloud_url(self, name: str) -> str:
        """What the rows store: `gs://bucket/name`, or `file:///...` for a directory."""
        ...

    def name_of(self, cloud_url: str) -> str:
        """The inverse of `cloud_url`; raises StorageError for another bucket's URL."""
        ...

    def signed_url(
        self, name: str, *, expires_in_seconds: int | None = None, method: Literal["GET", "PUT"] = "GET"
    ) -> str:
        """A URL that anyone can open. Without `expires_in_seconds` it is the same one for a while, and good for half to
        all of VIDEOMOMENTS_SIGNED_URL_SECONDS more; else a new one, good for exactly that long."""
        ...

    def ping(self) -> None:
        """Raises StorageUnavailable when the store can't be used."""
        ...
