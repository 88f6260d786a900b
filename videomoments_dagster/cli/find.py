"""`videomoments find`: moments for transcripts one already has. No database; no services either for the builtin model.

A remote model is looked up in the registry of the platform that the settings name; without one, in the code's own.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from videomoments_dagster.cli.records import records
from videomoments_dagster.errors import (
    InvalidConfig,
    InvalidTranscript,
    ModelError,
    ModelNotConfigured,
    NotFound,
    ServiceUnavailable,
)
from videomoments_dagster.models.protocols import MomentFinder, Sampling
from videomoments_dagster.moments.moment import FindOptions, FindResult
from videomoments_dagster.moments.records import transcript_from_record
from videomoments_dagster.moments.transcript import to_ms, to_seconds

_LONGEST_SECONDS = 1_000_000.0


def find(
    transcripts: Annotated[
        str, typer.Argument(metavar="TRANSCRIPTS", help="JSON, JSON lines, or .gz of either; '-' reads standard input")
    ],
    model: Annotated[str, typer.Option(help="Registry key of the model that finds")] = "builtin_moments",
    min_length: Annotated[float, typer.Option(help="Shortest moment, seconds")] = 15.0,
    max_length: Annotated[float, typer.Option(help="Longest moment, seconds")] = 600.0,
    min_moments: Annotated[int | None, typer.Option(help="Fewest moments, where the talk has so many")] = None,
    max_moments: Annotated[int | None, typer.Option(help="Most moments")] = None,
    focus: Annotated[str | None, typer.Option(help="What to look for, in your words; for language models")] = None,
) -> None:
    """Find the moments of transcripts you already have: one line of JSON each, in order."""
    try:
        options = FindOptions(_length(min_length), _length(max_length), min_moments, max_moments, focus)
        finder = _finder(model)
    except (InvalidConfig, NotFound, ModelNotConfigured) as error:
        raise typer.BadParameter(f"{error.message} {error.hint}") from None
    failed = read = False
    with _opened(transcripts) as stream:
        for place, record in records(stream):
            read, name = True, place
            try:
                if isinstance(record, InvalidTranscript):
                    raise record
                identifier = _identifier(record)
                name = f"{place}, id {identifier!r}"
                result = finder.find(transcript_from_record(record), options).result
            except (InvalidTranscript, ModelError) as error:
                failed = True
                typer.echo(f"{name}: {error.message}", err=True)
                continue
            typer.echo(_line(identifier, result))
            sys.stdout.flush()
            if not result.moments:
                typer.echo(f"{name}: no moments. {result.reason}", err=True)
    if not read:
        typer.echo(f"{transcripts}: holds no transcript.", err=True)
    if failed or not read:
        raise typer.Exit(1)


def _finder(key: str) -> MomentFinder:
    from videomoments_dagster.models.builtin.moments import BuiltinMoments  # the others load Redis and HTTP

    if key == BuiltinMoments.key:
        return BuiltinMoments()
    from videomoments_dagster.models.catalog import Models
    from videomoments_dagster.models.registry import ModelRegistry
    from videomoments_dagster.redis_connection import connect
    from videomoments_dagster.settings import get_settings

    settings = get_settings()
    try:
        registry = ModelRegistry(connect(settings.redis_url), settings)
    except ServiceUnavailable:  # no platform runs here
        registry = ModelRegistry(None, settings)
    return Models(registry, settings).language_model(registry.get(key), Sampling())


def _length(seconds: float) -> int:
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise InvalidConfig(f"{seconds:g} s is not a length.", hint="Give seconds, above 0.")
    return to_ms(seconds)


def _opened(source: str) -> Any:
    if source == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise typer.BadParameter(f"{source!r} can't be read: {error.strerror}.", param_hint="TRANSCRIPTS") from None


def _identifier(record: Any) -> str | int:
    if not isinstance(record, dict):
        raise InvalidTranscript("The record is not a JSON object.")
    identifier = record.get("id")
    if isinstance(identifier, bool) or not isinstance(identifier, str | int):
        raise InvalidTranscript("The record has no 'id'.")
    return identifier


def _line(identifier: str | int, result: FindResult) -> str:
    moments = [
        {
            "start_time": to_seconds(m.start_ms),
            "end_time": to_seconds(m.end_ms),
            "title": m.title,
            "score": m.score,
        }
        for m in result.moments
    ]
    return json.dumps({"id": identifier, "moments": moments}, ensure_ascii=False)
