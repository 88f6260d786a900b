"""`videomoments history`: the runs of one video, or of all, through the HTTP API."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.options import clock
from videomoments_dagster.cli.output import console, print_json
from videomoments_dagster.identifiers import validate_identifier


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
        return
    table = Table("started", "video", "pipeline", "status", "took", "moments", "clips", box=None)
    table.add_column("error", no_wrap=True, overflow="ellipsis")
    for run in runs:
        table.add_row(
            run["started_at"][:19].replace("T", " "),
            run["video_id"],
            run["pipeline_type"],
            run["status"],
            clock(run["duration_seconds"]) if run["duration_seconds"] is not None else "",
            _count(run["total_moments_generated"]),
            _count(run["total_clips_created"]),
            escape(": ".join(filter(None, [run["error_stage"], run["error_message"]]))),
        )
    console().print(table if runs else "No runs yet: `videomoments submit URL|FILE`.")


def _count(value: Any) -> str:
    return "" if value is None else str(value)
