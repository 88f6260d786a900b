"""What several commands take and tell: configuration pairs, how a run ended, times of day in a video."""

import json
from typing import Any

import typer

from videomoments_dagster.errors import VideoMomentsError


def parse_config(pairs: list[str]) -> dict[str, Any]:
    """`key=value` pairs; a value that is JSON (a number, true, null) is that, anything else a text."""
    config: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE, such as max_moments=5.", param_hint="--config")
        try:
            config[key] = json.loads(value)
        except ValueError:
            config[key] = value
    return config


def conclude(status: dict[str, Any]) -> None:
    """Raises the run's own error, so that every command says it the same way and exits with 1."""
    if status["status"] == "completed":
        return
    error = status["error"] or {"stage": None, "message": f"The pipeline was {status['status']}.", "hint": ""}
    raise VideoMomentsError(f"{error['stage'] or 'pipeline'}: {error['message']}", hint=error["hint"])


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
