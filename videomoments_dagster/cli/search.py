"""`videomoments search`: what is said in the videos, and titles of moments, through the HTTP API."""

import html
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.options import clock
from videomoments_dagster.cli.output import console, print_json


def search(
    words: Annotated[list[str], typer.Argument(help="Words said together; '\"a phrase\"', `or`, and after -- `-not`")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the best first")] = 10,
    json_output: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Search what is said in the videos, and the titles of moments."""
    hits = Api().items("/api/search", limit, q=" ".join(words))
    if json_output:
        print_json(hits)
        return
    table = Table("video", "at", "moment", "words", box=None)
    for hit in hits:
        table.add_row(hit["video_id"], clock(hit["start_time"]), hit["moment_id"] or "", _highlighted(hit["snippet"]))
    console().print(table if hits else "Nothing is said of that.")


def _highlighted(snippet: str) -> Text:
    text = Text()
    for number, part in enumerate(snippet.replace("</mark>", "<mark>").split("<mark>")):
        text.append(html.unescape(part), style="bold" if number % 2 else "")
    return text
