"""`videomoments refine`: one moment's boundaries anew."""

from typing import Annotated

import typer

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.follow import follow
from videomoments_dagster.cli.options import conclude, parse_config
from videomoments_dagster.cli.output import messages, print_json
from videomoments_dagster.identifiers import validate_identifier


def refine(
    video: Annotated[str, typer.Argument(help="The video's identifier")],
    moment: Annotated[str, typer.Argument(help="The moment's identifier; `videomoments moments --json` shows them")],
    config: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Such as refinement_model=KEY")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress and return when it has ended")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Refine one moment of a video alone."""
    api = Api()
    path = f"/api/videos/{validate_identifier(video)}/moments/{validate_identifier(moment)}/refine"
    started = api.post(path, {"config": parse_config(config or [])})
    if not wait:
        if json_output:
            print_json(started)
        else:
            messages().print(f"Started; `videomoments status {video}` shows how far it is.", soft_wrap=True)
        return
    status = follow(video, started["request_id"], api=api)
    if json_output:
        print_json(status)
    conclude(status)
