"""The object store that needs nothing: a directory, used when no bucket is configured.

The file of object `name` is `root/name`; what a file system does not keep (MD5, content type, generation) is in a
sidecar under `root/.store`. How the pair survives a kill is told at `_publish`. Serving over HTTP is the API's part.
"""

import base64
import errno
import fcntl
import hashlib
import json
import mimetypes
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote, unquote, urlsplit

from videomoments_dagster.errors import DiskFull, ObjectMismatch, ObjectMissing, StorageError, StorageUnavailable
from videomoments_dagster.storage import signatures
from videomoments_dagster.storage.base import StoredObject
from videomoments_dagster.storage.names import check_object_name, is_plain

_CHUNK_BYTES = 1024 * 1024
_STALE_SECONDS = 3600
_PRIVATE = ".store"
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}


class DirectoryStore:
    """ObjectStore in `root`, which is created when needed. Safe for many threads and processes at once.

    `public_url` is the address of the API that serves `/objects/{name}`, `ttl_seconds` the life of a signed URL.
    """

    signs_at_once = True

    def __init__(self, root: Path, signing_key: bytes, public_url: str, ttl_seconds: int = 3600) -> None:
        self._root = root.absolute()
        self._root_url = f"{self._root.as_uri()}/"
        self._key = signing_key
        self._public_url = public_url.rstrip("/")
        self._ttl_seconds = ttl_seconds
        self._temp = self._root / _PRIVATE / "temp"
        self._sidecars = self._root / _PRIVATE / "sidecars"

    def put_file(self, name: str, path: Path, content_type: str, *, is_final: bool = False) -> StoredObject:
        self.path(name)
        if is_final and (stored := self._put_link(name, path, content_type)):
            return stored
        with _failures(f"{path} can't be read"):
            source = path.open("rb")
        with source:
            size_bytes = os.fstat(source.fileno()).st_size
            return self._put(name, iter(lambda: source.read(_CHUNK_BYTES), b""), size_bytes, content_type)

    def put_bytes(self, name: str, data: bytes, content_type: str) -> StoredObject:
        return self._put(name, [data], len(data), content_type)

    def stat(self, name: str) -> StoredObject | None:
        path = self.path(name)
        with _failures(f"{name} can't be read"):
            found = _matching(self._candidates(name), path)
            if found or not path.is_file():
                return _stored(name, found) if found else None
            with self._locked():  # replaced between the two reads, or not written by us
                return self._adopt(name, path)

    def require(self, name: str) -> StoredObject:
        found = self.stat(name)
        if found is None:
            raise ObjectMissing(f"{self.cloud_url(name)} is not there.")
        return found

    @contextmanager
    def local_copy(self, name: str, directory: Path) -> Iterator[Path]:
        """The stored file itself, to be read only; `directory` is not used."""
        self.require(name)
        yield self.path(name)

    def delete(self, name: str) -> bool:
        path = self.path(name)
        with _failures(f"{name} can't be deleted"), self._locked():
            existed = path.is_file()
            if existed:
                path.unlink()
            self._sidecar(name).unlink(missing_ok=True)
            self._prune(path.parent)
        return existed

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Objects whose names start with `prefix`, in the order of their names; a folder is read when it is reached."""
        above = prefix.rpartition("/")[0]
        with _failures(f"{prefix} can't be listed"):
            self._sweep()
            for name in _names(self.path(above) if above else self._root, f"{above}/" if above else "", prefix):
                found = self.stat(name)
                if found:  # else deleted meanwhile
                    yield found

    def cloud_url(self, name: str) -> str:
        return self.path(name).as_uri()

    def name_of(self, cloud_url: str) -> str:
        if cloud_url.startswith(self._root_url) and is_plain(name := cloud_url.removeprefix(self._root_url)):
            return name
        parts = urlsplit(cloud_url)
        path = Path(unquote(parts.path))
        if parts.scheme != "file" or parts.netloc or not path.is_relative_to(self._root):
            raise StorageError(
                f"{cloud_url!r} is not in the object store at {self._root}.",
                hint="Rows made with another store (GCS_BUCKET_NAME, VIDEOMOMENTS_HOME) need that store.",
            )
        return check_object_name(str(path.relative_to(self._root)))

    def signed_url(
        self, name: str, *, expires_in_seconds: int | None = None, method: Literal["GET", "PUT"] = "GET"
    ) -> str:
        self._check(name)
        if expires_in_seconds is None:
            expires = signatures.issued_at(self._ttl_seconds) + self._ttl_seconds
        else:
            expires = int(time.time()) + expires_in_seconds
        signature = signatures.sign(self._key, method, name, expires)
        return f"{self._public_url}/objects/{quote(name)}?expires={expires}&signature={signature}"

    def verify(self, method: str, name: str, expires: int, signature: str) -> bool:
        """Whether a request for `/objects/{name}` carries a signature of ours that is still good."""
        return signatures.verify(self._key, method, name, expires, signature)

    def ping(self) -> None:
        with _failures(f"{self._root} can't be used"):
            self._temp.mkdir(parents=True, exist_ok=True)
            if not os.access(self._temp, os.W_OK | os.X_OK):
                raise StorageUnavailable(f"{self._root} can't be written.", hint="Give this user write access to it.")

    def path(self, name: str) -> Path:
        """Where the object's file is, or would be. Raises StorageError for a name that is not one."""
        self._check(name)
        return self._root / name

    def _check(self, name: str) -> None:
        if check_object_name(name).split("/", 1)[0] == _PRIVATE:
            raise StorageError(f"{name[:120]!r} can't name an object: {_PRIVATE} is the store's own.")

    def _put(self, name: str, chunks: Iterable[bytes], size_bytes: int, content_type: str) -> StoredObject:
        path = self.path(name)
        with _failures(f"{name} can't be stored"):
            self._sweep()
            with self._scratch() as file:
                digest = hashlib.md5(usedforsecurity=False)
                for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                _to_disk(file)
                written_bytes = os.fstat(file.fileno()).st_size
                if written_bytes != size_bytes:
                    raise ObjectMismatch(f"{name}: {written_bytes} of {size_bytes} bytes were stored.")
                with self._locked():
                    return self._publish(name, Path(file.name), path, digest.digest(), content_type)

    def _put_link(self, name: str, path: Path, content_type: str) -> StoredObject | None:
        """As `_put`, but the object is the file at `path` itself under another name. None where the file system, or
        another one in between, has no such links."""
        with _failures(f"{name} can't be stored"):
            self._sweep()
            self._temp.mkdir(parents=True, exist_ok=True)
            scratch = self._temp / uuid.uuid4().hex
            try:
                scratch.hardlink_to(path)
            except OSError as error:
                if error.errno in _NO_LINKS:
                    return None
                raise
            try:
                scratch.chmod(0o644)
                os.utime(scratch)  # as young as any other scratch file
                with scratch.open("rb") as file:
                    digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
                    os.fsync(file.fileno())
                with self._locked():
                    return self._publish(name, scratch, self.path(name), digest, content_type)
            finally:
                scratch.unlink(missing_ok=True)

    def _publish(self, name: str, scratch: Path, path: Path, md5: bytes, content_type: str) -> StoredObject:
        """Switch the object over. The sidecar is written first, with an entry for the new file and one for the old,
        each knowing its file by inode, size and mtime; renaming the file is then the one step that decides."""
        old = _matching(self._candidates(name), path)
        new = {
            "name": name,
            "size_bytes": scratch.stat().st_size,
            "md5": base64.b64encode(md5).decode(),
            "content_type": content_type,
            "generation": max(time.time_ns() // 1000, old["generation"] + 1 if old else 0),
            "file": _fingerprint(scratch),
        }
        self._write_sidecar(name, [new, old] if old else [new])
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.replace(path)
        _sync_directory(path.parent)
        return _stored(name, new)

    def _adopt(self, name: str, path: Path) -> StoredObject | None:
        """A file whose sidecar does not know it (restored from a copy, edited by hand): measure it again."""
        candidates = self._candidates(name)
        found = _matching(candidates, path)
        if not found:
            try:
                content = path.open("rb")
            except FileNotFoundError:
                return None
            with content:
                md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).digest()
                size_bytes = os.fstat(content.fileno()).st_size
            guess = mimetypes.guess_type(name)[0] or "application/octet-stream"
            found = {
                "name": name,
                "size_bytes": size_bytes,
                "md5": base64.b64encode(md5).decode(),
                "content_type": candidates[0]["content_type"] if candidates else guess,
                "generation": time.time_ns() // 1000,
                "file": _fingerprint(path),
            }
            self._write_sidecar(name, [found])
        return _stored(name, found)

    def _candidates(self, name: str) -> "list[dict[str, Any]]":
        try:
            return json.loads(self._sidecar(name).read_text())
        except (FileNotFoundError, ValueError):  # ValueError: a disk that lost power in the middle
            return []

    def _write_sidecar(self, name: str, candidates: "list[dict[str, Any]]") -> None:
        target = self._sidecar(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._scratch() as file:
            file.write(json.dumps(candidates).encode())
            _to_disk(file)
            Path(file.name).replace(target)

    def _sidecar(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()  # flat: 'a' and 'a.json/b' must not meet as file and folder
        return self._sidecars / digest[:2] / f"{digest}.json"

    @contextmanager
    def _scratch(self) -> Iterator[IO[bytes]]:
        """A file on the store's own file system; gone afterwards unless it was renamed into place."""
        self._temp.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._temp, delete=False) as file:
            os.fchmod(file.fileno(), 0o644)
            try:
                yield file
            finally:
                Path(file.name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._temp.mkdir(parents=True, exist_ok=True)
        with (self._root / _PRIVATE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        """Remove what killed writers left: a living one touches its file more often than once an hour."""
        with suppress(FileNotFoundError):
            for leftover in self._temp.iterdir():
                with suppress(FileNotFoundError):
                    if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                        leftover.unlink()

    def _prune(self, directory: Path) -> None:
        """Remove folders that became empty; under the lock, so that no writer has just made one."""
        with suppress(OSError):
            while directory != self._root:
                directory.rmdir()
                directory = directory.parent


def _names(folder: Path, above: str, prefix: str) -> Iterator[str]:
    """Names of the files in and below `folder`, whose own name is `above`, that start with `prefix`. A folder is sorted
    with its slash: 'a-b/x' comes before 'a/x'."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):  # nothing there, or removed meanwhile
        return
    for name in names:
        whole = above + name
        if whole == f"{_PRIVATE}/" or not whole.startswith(prefix[: len(whole)]):
            continue
        if name.endswith("/"):
            yield from _names(folder / name, whole, prefix)
        elif whole.startswith(prefix):
            yield whole


def _fingerprint(path: Path) -> "list[int]":
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _matching(candidates: list[dict[str, Any]], path: Path) -> dict[str, Any] | None:
    try:
        present = _fingerprint(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return next((each for each in candidates if each["file"] == present), None)


def _stored(name: str, entry: dict[str, Any]) -> StoredObject:
    return StoredObject(
        name,
        entry["size_bytes"],
        entry["md5"],
        entry["content_type"],
        entry["generation"],
        updated_at=datetime.fromtimestamp(entry["generation"] / 1e6, UTC),
    )


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"{what}: {error.strerror}.") from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}:
            raise StorageError(f"{what}: {error.strerror}.") from error
        raise StorageUnavailable(f"{what}: {error.strerror}.", hint="Check the disk and the rights on it.") from error
