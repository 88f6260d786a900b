"""`videomoments failures`: the videos that need somebody, a line each, through the HTTP API."""

from typing import Annotated

import typer
from rich.markup import escape

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.output import console, messages, print_json


def failures(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first")] = 200,
    json_output: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """List the videos whose last run failed, with what to do about each."""
    found = Api().items("/api/pipeline/failures", limit)
    if json_output:
        print_json(found)
        return
    for each in found:
        where = " ".join(filter(None, [each["stage"], each["code"]]))
        told = f"{each['video_id']}: {where or each['status']}: {each['message']} {each['hint']}".rstrip()
        console().print(escape(" ".join(told.split())), soft_wrap=True)
    if not found:
        messages().print("No failures.")
    elif any(each["retryable"] for each in found):
        messages().print("`videomoments retry --failed` does what their last runs left undone.")
