"""What the commands have in common at the terminal: results on stdout, everything else on stderr, one way to fail."""

import json
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import typer

from videomoments_dagster.errors import VideoMomentsError

if TYPE_CHECKING:
    from rich.console import Console


@lru_cache(maxsize=1)
def console() -> "Console":
    """For people: colours and tables, on stdout."""
    from rich.console import Console

    return Console(highlight=False)


@lru_cache(maxsize=1)
def messages() -> "Console":
    """For people who watch: progress and remarks, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """For programs: indented at a terminal, one line in a pipe."""
    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, default=str))


def fail(error: VideoMomentsError) -> typer.Exit:
    """Say what happened and what to do, on stderr; raise what is returned."""
    typer.secho(error.message, err=True, fg="red" if sys.stderr.isatty() else None)
    if error.hint:
        typer.echo(error.hint, err=True)
    return typer.Exit(1)


def debugging() -> bool:
    """Whether unexpected errors show where they come from."""
    from videomoments_dagster.settings import get_settings  # pydantic: not for --help

    try:
        return get_settings().debug
    except VideoMomentsError:
        return False
