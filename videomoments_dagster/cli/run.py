"""`videomoments run`: the pipeline again, for one known video or for all of them."""

from typing import Annotated

import typer

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.follow import follow
from videomoments_dagster.cli.options import conclude, parse_config
from videomoments_dagster.cli.output import messages, print_json
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.identifiers import validate_identifier
from videomoments_dagster.requests.stages import PipelineType

_EVERY_VIDEO = 1_000_000


def run(
    video: Annotated[str | None, typer.Argument(help="The video's identifier")] = None,
    all_videos: Annotated[bool, typer.Option("--all", help="Every video")] = False,
    pipeline_type: Annotated[PipelineType, typer.Option("--type", help="How much of it")] = PipelineType.FULL,
    config: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Such as max_moments=5")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress and return when it has ended")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON list of what was started")] = False,
) -> None:
    """Run the pipeline again for one video, or for all. One that can't start does not hold up the others."""
    if (video is None) != all_videos:
        raise typer.BadParameter("Give a video, or --all.")
    api, body = Api(), {"pipeline_type": pipeline_type.value, "config": parse_config(config or [])}
    chosen = [each["id"] for each in api.items("/api/videos", _EVERY_VIDEO)] if all_videos else [str(video)]
    started, failed = [], []
    for key in chosen:
        try:
            started.append(api.post(f"/api/pipeline/{validate_identifier(key)}/start", body))
        except VideoMomentsError as error:
            if not all_videos:
                raise
            failed.append({"video_id": key, **error.as_dict()})
            messages().print(f"{key}: {error.message} {error.hint}".rstrip(), soft_wrap=True)
    if wait:
        for request in started:
            messages().print(f"{request['video_id']}:")
            status = follow(request["video_id"], request["request_id"], api=api)
            if status["status"] != "completed":
                failed.append(status)
                if not all_videos:
                    conclude(status)
    if json_output:
        print_json(started)
    else:
        messages().print(f"{len(started)} started, {len(failed)} failed." if all_videos else f"Started {video}.")
    if failed:
        raise typer.Exit(1)
