"""`videomoments cancel` and `retry`: ending what a video's pipeline does, and doing what its last run left undone."""

from typing import Annotated, Any

import typer

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.follow import follow
from videomoments_dagster.cli.options import conclude
from videomoments_dagster.cli.output import messages, print_json
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.identifiers import validate_identifier

_EVERY_FAILURE = 1_000_000
_Json = Annotated[bool, typer.Option("--json", help="For programs")]
_Wait = Annotated[bool, typer.Option("--wait", help="Return when it has ended")]


def cancel(
    video: Annotated[str, typer.Argument(help="The video's identifier")],
    wait: _Wait = False,
    json_output: _Json = False,
) -> None:
    """Cancel what is queued or running for a video."""
    api = Api()
    ordered = api.post(f"/api/pipeline/{validate_identifier(video)}/cancel", {})
    status = follow(video, None, api=api) if wait else None
    if json_output:
        print_json(status or ordered)
    else:
        messages().print(f"{video}: {status['status']}." if status else f"{video} is being cancelled.")


def retry(
    video: Annotated[str | None, typer.Argument(help="The video's identifier")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every video whose failure is not permanent")] = False,
    wait: _Wait = False,
    json_output: _Json = False,
) -> None:
    """Do what a video's last run left undone. One that can't start does not hold up the others."""
    if (video is None) != failed:
        raise typer.BadParameter("Give a video, or --failed.")
    api = Api()
    if video:
        chosen = [validate_identifier(video)]
    else:
        failures = api.items("/api/pipeline/failures", _EVERY_FAILURE)
        chosen = [failure["video_id"] for failure in failures if failure["retryable"] is not False]
    started: list[dict[str, Any]] = []
    refused = 0
    for key in chosen:
        try:
            started.append(api.post(f"/api/pipeline/{key}/retry", {}))
        except VideoMomentsError as error:
            if video:
                raise
            refused += 1
            messages().print(f"{key}: {error.message} {error.hint}".rstrip(), soft_wrap=True)
    ended = [follow(each["video_id"], each["request_id"], api=api) for each in started] if wait else []
    if json_output:
        print_json(ended or started)
    else:
        messages().print(f"{len(started)} started, {refused} refused." if failed else f"Started {video}.")
    if video and ended:
        conclude(ended[0])
    if refused or any(status["status"] != "completed" for status in ended):
        raise typer.Exit(1)
