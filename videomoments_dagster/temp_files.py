"""Temporary files of this host: `temp/{purpose}/{video}/<unique>/`, each locked by the process that works there.

The lock is the kernel's, so it ends with its process however that ends, and no reused process id can feign it. A
directory with a RESUME file stays when its work fails, so that the next attempt goes on with it.
"""

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

from videomoments_dagster.disk_usage import Amount, Measured, directories_in, files_in, measure, measure_file, total
from videomoments_dagster.errors import NO_SPACE, DiskFull, MediaError, SourceError
from videomoments_dagster.file_locks import FileLock
from videomoments_dagster.identifiers import validate_identifier
from videomoments_dagster.settings import Settings

RESUME = "resume.json"
"""The file that says how to go on with what is in its directory. What it holds is its writer's business."""
DOWNLOADS, UPLOADS = "downloads", "uploads"
CLEAN_EVERY_SECONDS = 6 * 3600
UNUSED_SECONDS = 24 * 3600
"""An attempt that comes later than this does not go on with what is there: its source has likely changed."""
_LOCK = ".lock"
_log = logging.getLogger("videomoments.temp")


@dataclass(frozen=True, slots=True)
class Usage:
    """What is there for one purpose. `in_use` counts directories that somebody works in; `oldest_seconds` is the time
    since anything was written to the one that has waited longest."""

    purpose: str
    amount: Amount
    in_use: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class TempStats:
    """`free_bytes` of `disk_bytes` are left on the disk of the temp folder."""

    purposes: tuple[Usage, ...]
    free_bytes: int
    disk_bytes: int

    @property
    def all(self) -> Usage:
        """All purposes together."""
        return Usage(
            "all",
            total(each.amount for each in self.purposes),
            sum(each.in_use for each in self.purposes),
            max((each.oldest_seconds for each in self.purposes), default=0.0),
        )


class TempFiles:
    """The directories under `root`. Safe for many threads and processes of a host at once.

    What waits to be gone on with takes at most `kept_bytes`, and makes room, all of it, when the disk is full. Not
    UPLOADS: this host can't fetch them again, and who receives them bounds them.
    """

    def __init__(self, root: Path, kept_bytes: int) -> None:
        self._root, self._kept_bytes = root, kept_bytes

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.temp_directory, settings.temp_bytes)

    @contextmanager
    def directory(self, purpose: str, video: str) -> Iterator[Path]:
        """An empty directory, removed afterwards with all that is in it. Raises DiskFull, InvalidIdentifier."""
        path, lock = self._make(purpose, video)
        try:
            with self._making_room():
                yield path
        finally:
            self._remove(path, lock)

    @contextmanager
    def resumable(self, purpose: str, video: str) -> Iterator[Path]:
        """As `directory`, but the one that an earlier attempt left, where there is one; and it stays when the body
        fails or is interrupted with a RESUME file in it. Not when the error says that its content is no good."""
        path, lock = self._take_kept(purpose, video) or self._make(purpose, video)
        is_done = False
        try:
            with self._making_room():
                yield path
            is_done = True
        except (SourceError, MediaError) as error:
            is_done = not error.retryable
            raise
        finally:
            if is_done or not _is_kept(path):
                self._remove(path, lock)
            else:
                lock.release()
                self._keep_at_most(self._kept_bytes)

    @contextmanager
    def parked(self, purpose: str, name: str, *, create: bool = False) -> Iterator[Path]:
        """The directory that lies under this name, or a new one; it stays, whatever happens here, for as long as there
        is a RESUME file in it. Raises FileNotFoundError where there is none, or one of more than UNUSED_SECONDS, and
        BlockingIOError while somebody works in it; DiskFull."""
        path, lock = self._make(purpose, name) if create else self._take_parked(purpose, name)
        try:
            with self._making_room():
                yield path
        finally:
            if _is_kept(path):
                lock.release()
            else:
                self._remove(path, lock)

    def find_parked(self, purpose: str, name: str) -> Path | None:
        """Where that directory is, whoever works in it."""
        found = (path for path in directories_in(self._root / purpose / validate_identifier(name)) if _is_kept(path))
        return next((path for path in found if not _is_unused(path)), None)

    def all_parked(self, purpose: str) -> Iterator[Path]:
        """Those of all names."""
        for each in directories_in(self._root / purpose):
            yield from (path for path in directories_in(each) if _is_kept(path))

    def clean(self) -> Amount:
        """Remove what dead processes left. What can be gone on with stays, unless it is older than UNUSED_SECONDS or,
        the oldest first, more than `kept_bytes`. Never what somebody works with. Returns what was removed."""
        removed = total(map(self._clean, self._directories()))
        removed += self._keep_at_most(self._kept_bytes) + self._remove_strays()
        if removed.files:
            _log.info("Temporary files removed: %d, of %d bytes.", removed.files, removed.size_bytes)
        return removed

    def clean_in_background(self) -> None:
        """`clean` in a thread of its own that nobody waits for."""
        threading.Thread(target=self._clean_or_warn, name="temp-files", daemon=True).start()

    def remove_video(self, video: str, *, in_use: bool = False) -> Amount:
        """Remove what there is of `video`, for any purpose; what somebody works with only when told by `in_use`."""
        removed = Amount()
        for purpose in directories_in(self._root):
            for path in directories_in(purpose / validate_identifier(video)):
                try:
                    lock = self._claim(path)
                except BlockingIOError:
                    if not in_use:
                        continue
                    lock = None
                removed += self._remove(path, lock)
            self._prune(purpose / video)
        return removed

    def stats(self) -> TempStats:
        """What is there now. Asked while others work, it is a little out of date when it answers."""
        found: dict[str, Usage] = {}
        for path in self._directories():
            purpose, measured = path.parent.parent.name, _measure(path)
            before = found.get(purpose, Usage(purpose, Amount(), 0, 0.0))
            found[purpose] = Usage(
                purpose,
                before.amount + measured.amount,
                before.in_use + self._is_used(path),
                max(before.oldest_seconds, measured.age_seconds),
            )
        disk = shutil.disk_usage(next(each for each in (self._root, *self._root.parents) if each.exists()))
        return TempStats(tuple(found[purpose] for purpose in sorted(found)), disk.free, disk.total)

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """One at a time makes, takes, judges and lets go of directories: so nobody meets one between its making and its
        lock, and a lock that can't be had is that of somebody who works. Not to be held while files are removed."""
        self._root.mkdir(parents=True, exist_ok=True)
        gate = FileLock(self._root.with_name(f"{self._root.name}.lock"))
        try:
            gate.take()
            yield
        finally:
            gate.release()

    def _make(self, purpose: str, video: str) -> tuple[Path, FileLock]:
        parent = self._root / purpose / validate_identifier(video)
        try:
            with self._gate():
                parent.mkdir(parents=True, exist_ok=True)
                path = Path(mkdtemp(dir=parent, prefix=""))
                try:
                    lock = FileLock(path / _LOCK)
                except OSError:
                    path.rmdir()
                    raise
                lock.take()
        except OSError as error:
            self._prune(parent)
            if error.errno not in NO_SPACE:
                raise
            self._keep_at_most(0)
            raise DiskFull(f"No space for temporary files in {parent}.") from error
        return path, lock

    def _claim(self, path: Path) -> FileLock | None:
        with self._gate():
            return _lock_of(path)

    def _take_kept(self, purpose: str, video: str) -> tuple[Path, FileLock] | None:
        """The newest that nobody works with."""
        found = [path for path in directories_in(self._root / purpose / validate_identifier(video)) if _is_kept(path)]
        for path in sorted(found, key=lambda path: _measure(path).age_seconds):
            with suppress(BlockingIOError):
                if lock := self._claim(path):
                    return path, lock
        return None

    def _take_parked(self, purpose: str, name: str) -> tuple[Path, FileLock]:
        for path in directories_in(self._root / purpose / validate_identifier(name)):
            if lock := self._claim(path):
                if _is_kept(path) and not _is_unused(path):
                    return path, lock
                self._remove(path, lock)
        raise FileNotFoundError(name)

    def _is_used(self, path: Path) -> bool:
        try:
            with self._gate():
                if lock := _lock_of(path):
                    lock.release()
        except BlockingIOError:
            return True
        return False

    def _clean(self, path: Path) -> Amount:
        """One whose making was cut short has no lock, nor has what did not come from here: it has time to be found."""
        with suppress(BlockingIOError):
            with self._gate():
                lock = _lock_of(path)
                has_time = not _is_unused(path)
                if has_time and (lock is None or _is_kept(path)):
                    if lock:
                        lock.release()
                    return Amount()
            return self._remove(path, lock)
        return Amount()

    def _keep_at_most(self, size_bytes: int) -> Amount:
        """Of what waits to be gone on with, remove the oldest until it takes no more than `size_bytes`."""
        evictable = (path for path in self._directories() if path.parent.parent.name != UPLOADS and _is_kept(path))
        kept = [(_measure(path), path) for path in evictable if not self._is_used(path)]
        kept.sort(key=lambda each: each[0].age_seconds, reverse=True)
        left = sum(measured.amount.size_bytes for measured, _ in kept)
        removed = Amount()
        for measured, path in kept:
            if left <= size_bytes:
                break
            with suppress(BlockingIOError):
                removed += self._remove(path, self._claim(path))
            left -= measured.amount.size_bytes
        return removed

    @contextmanager
    def _making_room(self) -> Iterator[None]:
        try:
            yield
        except (DiskFull, OSError) as error:
            if isinstance(error, DiskFull) or error.errno in NO_SPACE:
                self._keep_at_most(0)
            raise

    def _remove(self, path: Path, lock: FileLock | None) -> Amount:
        """Whatever cuts it short leaves a leftover: the RESUME file goes first, the lock last. A forked child does
        nothing: there the lock is not held, and the directory is its parent's."""
        if lock and not lock.is_held:
            return Amount()
        measured = _measure(path)
        with suppress(OSError):
            (path / RESUME).unlink(missing_ok=True)
            for each in files_in(path):
                if each.name != _LOCK:
                    each.unlink(missing_ok=True)
        for each in directories_in(path):
            shutil.rmtree(each, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)
        if lock:
            lock.release()
        self._prune(path.parent)
        return Amount() if path.exists() else measured.amount

    def _prune(self, parent: Path) -> None:
        with suppress(OSError), self._gate():  # not empty: somebody else works there
            parent.rmdir()
            parent.parent.rmdir()

    def _remove_strays(self) -> Amount:
        """Files beside the directories, and empty directories above them. None of them comes from here."""
        removed = Amount()
        for purpose in directories_in(self._root):
            for video in directories_in(purpose):
                removed += _remove_old_files(video)
                self._prune(video)
            removed += _remove_old_files(purpose)
            with suppress(OSError), self._gate():
                purpose.rmdir()
        return removed + _remove_old_files(self._root)

    def _directories(self) -> Iterator[Path]:
        for purpose in directories_in(self._root):
            for video in directories_in(purpose):
                yield from directories_in(video)

    def _clean_or_warn(self) -> None:
        try:
            self.clean()
        except OSError as error:
            _log.warning("Temporary files in %s can't be cleaned up: %s.", self._root, error.strerror)


def _measure(path: Path) -> Measured:
    return measure(path, without=_LOCK)


def _is_kept(path: Path) -> bool:
    return (path / RESUME).exists()


def _is_unused(path: Path) -> bool:
    return _measure(path).age_seconds > UNUSED_SECONDS


def _lock_of(path: Path) -> FileLock | None:
    """The lock of a directory, taken; None where it has none. Raises BlockingIOError while somebody works there. Only
    under the gate."""
    try:
        lock = FileLock(path / _LOCK, create=False)
    except FileNotFoundError:
        return None
    if lock.try_take():
        return lock
    lock.release()
    raise BlockingIOError


def _remove_old_files(parent: Path) -> Amount:
    removed = Amount()
    for path in files_in(parent):
        found = measure_file(path)
        if found.age_seconds > UNUSED_SECONDS:
            with suppress(OSError):
                path.unlink()
                removed += found.amount
    return removed
