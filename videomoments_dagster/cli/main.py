"""The command line's entry point: which commands there are, and what becomes of errors. A command's module is
imported only when the command runs, so that `--help` and errors are quick.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from videomoments_dagster.errors import VideoMomentsError

COMMANDS = {
    "up": ("platform", "Start the platform and stay; Ctrl-C stops it."),
    "down": ("platform", "Stop the platform."),
    "env": ("platform", 'Print the running platform\'s addresses as shell exports: eval "$(videomoments env)".'),
    "worker": ("worker", "Execute runs on this host until it is stopped."),
    "workers": ("worker", "Show the workers there are now, on all hosts."),
    "demo": ("demo", "Take the bundled talk through every asset and show its moments."),
    "submit": ("videos", "Submit a video by its URL or a file."),
    "list": ("videos", "List the videos."),
    "status": ("videos", "Show how far a video's pipeline is."),
    "moments": ("videos", "Show a video's moments."),
    "search": ("search", "Search what is said in the videos, and the titles of moments."),
    "export": ("export", "Write a video's moments or captions in a format of other programs."),
    "history": ("history", "Show the runs of a video, or of all."),
    "failures": ("failures", "List the videos whose last run failed, with what to do about each."),
    "delete": ("videos", "Delete a video with all that was made from it."),
    "find": ("find", "Find the moments of transcripts you already have: one line of JSON each, in order."),
    "models": ("models", "List, edit and check the models."),
    "replay": ("replay", "Derive a video's moments again from the models' stored answers, and compare."),
    "refine": ("refine", "Refine one moment of a video alone."),
    "cancel": ("control", "Cancel what is queued or running for a video."),
    "retry": ("control", "Do what a video's last run left undone."),
    "run": ("run", "Run the pipeline again for one video, or for all."),
    "check": ("check", "Run the asset checks of one video, or of all."),
    "sweep": (
        "sweep",
        "Find what rows, files, partitions, locks and statuses disagree about, and mend it with --fix.",
    ),
    "keys": ("keys", "Make, list and revoke the API's keys."),
    "db": ("database", "Migrate and check the database."),
    "doctor": ("doctor", "Say what this machine has and lacks, and what to do about it."),
}
"""Command: its module in this package, and the first line of its help. In the module it is a function of that name, or
a Typer `app`."""


class _LazyGroup(TyperGroup):
    """Lists commands from the table; imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and load(found.name or ""), rest


def load(name: str) -> Any:
    """The command `name`, imported."""
    module = import_module(f"videomoments_dagster.cli.{COMMANDS[name][0]}")
    if hasattr(module, "app"):
        command = typer.main.get_command(module.app)
    else:
        single = typer.Typer(add_completion=False)
        single.command()(getattr(module, "list_" if name == "list" else name))
        command = typer.main.get_command(single)
    command.name = name
    return command


app = typer.Typer(
    cls=_LazyGroup, no_args_is_help=True, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("videomoments"))
        raise typer.Exit


@app.callback()
def videomoments(
    _version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_print_version)] = False,
) -> None:
    """Turns a video URL into titled, timestamped moments."""


def run() -> None:
    """Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted. No traceback unless VIDEOMOMENTS_DEBUG=1."""
    from videomoments_dagster.cli.output import debugging, fail

    try:
        app()
    except VideoMomentsError as error:
        if debugging():
            raise
        sys.exit(fail(error).exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `videomoments list | head`
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if debugging():
            raise
        typer.echo(f"Something went wrong that should not: {type(error).__name__}: {error}", err=True)
        typer.echo("VIDEOMOMENTS_DEBUG=1 shows where. Please report it with that output.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
