"""Small files of the stack: secrets, whole and readable by their owner only; logs that do not grow for ever."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from videomoments_dagster.logs import readable

LONGEST_LOG_BYTES = 10 * 1024**2


def write_private_json(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` in one step, mode 0600."""
    write_private_text(path, json.dumps(content, indent=2) + "\n")


def write_private_text(path: Path, content: str) -> None:
    """Replace `path` in one step, mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(content)
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The content of `path`; empty when there is none or a crash left it unreadable."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def open_log(path: Path) -> IO[bytes]:
    """Open for appending, rotated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rotate(path)
    return path.open("ab")


def rotate(path: Path) -> None:
    """Once a log is longer than 10 MB its content moves to `<name>.1`. Whoever writes goes on in the same file, which
    is empty then: logs are opened for appending. A line that is written meanwhile may be lost."""
    with suppress(OSError):  # there is none yet, or no space for a copy
        if path.stat().st_size > LONGEST_LOG_BYTES:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log as people read it, at most `count` lines of the file."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 8192))
            return "\n".join(map(readable, log.read().decode(errors="replace").splitlines()[-count:]))
    except OSError:
        return ""
