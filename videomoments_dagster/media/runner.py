"""Starts the media child process with the configured limits. Everything that touches FFmpeg's libraries goes this way;
the in-child side is `native/`, which this side never imports."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from videomoments_dagster.errors import DiskFull, MediaCrashed, MediaError, MediaTimeout, VideoMomentsError
from videomoments_dagster.processes import Progress, run_child
from videomoments_dagster.settings import get_settings

_CHILD = "videomoments_dagster.media.child"
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def run_media(
    operation: str, *, on_progress: Progress | None = None, timeout_seconds: float | None = None, **arguments: Any
) -> Any:
    """Run one operation of `child.py` in a process of its own. Paths may be given as they are; `timeout_seconds` is
    for what cannot wait as long as the settings say.

    Raises the MediaError that the operation reports, MediaTimeout, MediaCrashed, or DiskFull.
    """
    settings = get_settings()
    return run_child(
        _CHILD,
        {"operation": operation, "arguments": {key: _plain(value) for key, value in arguments.items()}},
        timeout_seconds=timeout_seconds or settings.media_timeout_seconds,
        memory_bytes=settings.media_memory_bytes,
        on_progress=on_progress,
    )


def readable(path: Path) -> Path:
    """`path`, absolute. Raises MediaError when no file is there."""
    if not path.is_file():
        raise MediaError(f"There is no file {path}.", hint="Materialize the asset that makes it again.")
    return path.absolute()


def batch_or_alone(
    items: Sequence[Item],
    together: Callable[[Sequence[Item]], Sequence[Answer]],
    failed: Callable[[Item, VideoMomentsError], Answer],
) -> list[Answer]:
    """The answers of `together(items)`; when the child dies on them, of each alone, so that only the culprit fails."""
    if not items:
        return []
    try:
        return list(together(items))
    except DiskFull:
        raise
    except (MediaCrashed, MediaTimeout) as error:
        if len(items) == 1:
            return [failed(items[0], error)]
    return [answer for item in items for answer in batch_or_alone([item], together, failed)]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
