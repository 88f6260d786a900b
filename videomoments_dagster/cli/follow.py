"""Watching a request until it ends: a live table at a terminal, one line for each change elsewhere. On stderr."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.output import messages
from videomoments_dagster.errors import VideoMomentsError

ENDED = frozenset({"completed", "failed", "partial", "cancelled"})
_POLL_SECONDS = 0.5  # the API has no events to wait for yet
_PATIENCE_SECONDS = 60.0  # an API that restarts does not end the watch
_MARKS = {"completed": "[green]✓[/]", "failed": "[red]✗[/]", "running": "[cyan]▸[/]", "skipped": "[dim]·[/]"}

Show = Callable[[dict[str, Any]], None]


def follow(video: str, request_id: str | None, *, api: Api | None = None) -> dict[str, Any]:
    """Show the progress of `request_id` (any request of the video when None) and return its last status.

    Raises VideoMomentsError when the API stays away for a minute, or forgets the video.
    """
    api = api or Api()
    at_terminal = messages().is_terminal
    live = Live(console=messages(), auto_refresh=False, transient=False) if at_terminal else None
    show: Show = (lambda status: live.update(stage_table(status), refresh=True)) if live else _Lines()
    context: AbstractContextManager[Any] = live or nullcontext()
    with context:
        return _watch(api, video, request_id, show)


def _watch(api: Api, video: str, request_id: str | None, show: Show) -> dict[str, Any]:
    answered = time.monotonic()
    while True:
        try:
            status = api.get(f"/api/pipeline/{video}/status")
        except VideoMomentsError as error:
            if not error.retryable or time.monotonic() - answered > _PATIENCE_SECONDS:
                raise
        else:
            answered = time.monotonic()
            if request_id is None or status["request_id"] == request_id:
                show(status)
                if status["status"] in ENDED:
                    return status
        time.sleep(_POLL_SECONDS)


class _Lines:
    """A line for every stage that starts or ends: what fits a log."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, status: dict[str, Any]) -> None:
        for stage in status["stages"]:
            name, state = stage["stage"], stage["status"]
            if state != self._known.get(name, "pending"):
                seconds = stage_seconds(stage)
                took = f"  {seconds:.1f} s" if seconds is not None and state != "running" else ""
                messages().print(f"{name:<18} {state}{took}")
            self._known[name] = state
        if status["status"] != self._known.get("", "queued"):
            messages().print(f"{'pipeline':<18} {status['status']}")
        self._known[""] = status["status"]


def stage_table(status: dict[str, Any]) -> Table:
    """Every stage with its state, progress and time."""
    table = Table.grid(padding=(0, 2))
    for stage in status["stages"]:
        state = stage["status"]
        if state == "skipped":
            continue
        bar = ProgressBar(total=1, completed=stage["progress"], width=24) if state == "running" else ""
        seconds = stage_seconds(stage)
        table.add_row(
            _MARKS.get(state, " "),
            stage["stage"].replace("_", " ").lower(),
            state,
            bar,
            f"{seconds:.1f} s" if seconds is not None else "",
        )
    return table


def stage_seconds(stage: dict[str, Any]) -> float | None:
    """Wall seconds of an ended stage."""
    if not stage["started_at"] or not stage["completed_at"]:
        return None
    return (datetime.fromisoformat(stage["completed_at"]) - datetime.fromisoformat(stage["started_at"])).total_seconds()
