"""How an operation hands back its work: files that appear only when they are whole, failures of single items."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videomoments_dagster.errors import VideoMomentsError


@contextmanager
def replacing(destination: Path) -> Iterator[Path]:
    """A temporary name beside `destination`, renamed to it at the end, removed when the body fails."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


def failure(error: VideoMomentsError) -> dict[str, Any]:
    """The answer for one item of a batch that failed; the others go on."""
    return {"error": {"class": type(error).__name__, "message": error.message, "hint": error.hint}}
