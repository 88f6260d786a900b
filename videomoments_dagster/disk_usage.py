"""How much lies in directories that others change meanwhile: links are never followed, what is gone counts nothing."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Amount:
    directories: int = 0
    files: int = 0
    size_bytes: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.directories + other.directories, self.files + other.files, self.size_bytes + other.size_bytes
        )


def total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, Amount())


@dataclass(frozen=True, slots=True)
class Measured:
    """One directory with all below it. `age_seconds` is the time since anything there was written."""

    amount: Amount
    age_seconds: float


def measure(directory: Path, *, without: str = "") -> Measured:
    """Never raises OSError. Files called `without` are not counted."""
    files, size_bytes, newest = 0, 0, 0.0
    for folder, _, names in os.walk(directory):
        with suppress(OSError):
            newest = max(newest, os.lstat(folder).st_mtime)
        for name in names:
            if name != without:
                with suppress(OSError):
                    status = os.lstat(os.path.join(folder, name))  # noqa: PTH118  # asked for every file
                    files, size_bytes, newest = files + 1, size_bytes + status.st_size, max(newest, status.st_mtime)
    return Measured(Amount(1, files, size_bytes), _age_seconds(newest))


def measure_file(path: Path) -> Measured:
    """As `measure`, of one file."""
    try:
        status = path.lstat()
    except OSError:
        return Measured(Amount(), 0.0)
    return Measured(Amount(0, 1, status.st_size), _age_seconds(status.st_mtime))


def directories_in(parent: Path) -> list[Path]:
    return [path for path in _entries(parent) if path.is_dir() and not path.is_symlink()]


def files_in(parent: Path) -> list[Path]:
    """Whatever is not a directory."""
    return [path for path in _entries(parent) if path.is_symlink() or not path.is_dir()]


def _entries(parent: Path) -> list[Path]:
    try:
        return list(parent.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _age_seconds(written_at: float) -> float:
    return max(0.0, time.time() - written_at) if written_at else 0.0
