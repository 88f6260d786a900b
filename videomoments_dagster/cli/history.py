"""`videomoments history`: the runs of one video, or of all, through the HTTP API."""

from typing import Annotated, Any

import typer

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.options import clock
from videomoments_dagster.cli.output import console, messages, print_json
from videomoments_dagster.identifiers import validate_identifier

_COLUMNS = ["started", "video", "pipeline", "status", "took", "moments", "clips", "error"]


def history(
    video: Annotated[str | None, typer.Argument(help="The video's identifier; all videos without it")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first")] = 50,
    json_output: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show the runs of a video, or of all."""
    path = f"/api/pipeline/{validate_identifier(video)}/history" if video else "/api/pipeline/recent"
    runs = Api().items(path, limit)
    if json_output:
        print_json(runs)
    elif not runs:
        messages().print("No runs yet: `videomoments submit URL|FILE`.")
    else:
        _show([_COLUMNS, *map(_cells, runs)])


def _cells(run: dict[str, Any]) -> list[str]:
    counts = [run["total_moments_generated"], run["total_clips_created"]]
    return [
        run["started_at"][:19].replace("T", " "),
        run["video_id"],
        run["pipeline_type"],
        run["status"],
        clock(run["duration_seconds"]) if run["duration_seconds"] is not None else "",
        *("" if count is None else str(count) for count in counts),
        ": ".join(filter(None, [run["error_stage"], run["error_message"]])),
    ]


def _show(rows: list[list[str]]) -> None:
    """A line each, however long its error is: a table would break it into a column of words."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    for row in rows:
        line = "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        console().print(line.rstrip(), soft_wrap=True, markup=False)
