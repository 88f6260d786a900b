"""`videomoments export`: a video's moments or captions as a file, through the HTTP API."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.output import messages
from videomoments_dagster.errors import InvalidInput
from videomoments_dagster.identifiers import validate_identifier


class FileFormat(StrEnum):
    """The API's formats of moments, and those of captions."""

    JSON = "json"
    CSV = "csv"
    CHAPTERS = "chapters"
    EDL = "edl"
    OTIO = "otio"
    FCPXML = "fcpxml"
    VTT = "vtt"
    SRT = "srt"


def export(
    video: Annotated[str, typer.Argument(help="The video's identifier; `videomoments list` shows them")],
    format: Annotated[FileFormat, typer.Option("--format", "-f", help="`vtt` and `srt` are captions")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Not to the terminal")] = None,
    refined: Annotated[
        bool | None,
        typer.Option("--refined/--unrefined", help="Only refined moments, or only unrefined ones"),
    ] = None,
) -> None:
    """Write a video's moments or captions in a format of other programs."""
    path = f"/api/videos/{validate_identifier(video)}"
    if format in {FileFormat.VTT, FileFormat.SRT}:
        if refined is not None:
            raise typer.BadParameter("Captions are of the whole video.", param_hint="--refined/--unrefined")
        answer = Api().exchange("GET", f"{path}/transcript.{format}")
    else:
        query = {"format": str(format)} | ({} if refined is None else {"refined": str(refined).lower()})
        answer = Api().exchange("GET", f"{path}/export", params=query)
    if output is None:
        typer.echo(answer.content, nl=False)
        return
    try:
        output.write_bytes(answer.content)
    except OSError as error:
        raise InvalidInput(f"{output} can't be written: {error.strerror}.") from None
    messages().print(f"Written to {output}.", soft_wrap=True, markup=False)
