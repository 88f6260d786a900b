"""`videomoments replay`: a video's moments derived again from the stored answers, without any model."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.orm import Session

from db.models import Video
from db.queries import moments as moment_queries
from db.queries import transcripts as transcript_queries
from db.queries import videos as video_queries
from db.queries.moments import MomentView
from db.session import Database
from videomoments_dagster.cli.options import clock
from videomoments_dagster.cli.output import console, messages, print_json
from videomoments_dagster.errors import NotFound
from videomoments_dagster.identifiers import moment_identifier, validate_identifier
from videomoments_dagster.moments.archive import Archive
from videomoments_dagster.moments.replay import replay_moments, replay_refinements, replay_scores
from videomoments_dagster.moments.transcript import Transcript, to_seconds
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.factory import open_store

_Rows = dict[str, tuple[Any, ...]]


def replay(
    video: Annotated[str, typer.Argument(help="The video's identifier")],
    json_output: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Derive a video's moments again from the models' stored answers, and compare.

    No model is asked. Exit code 1 when what is derived differs from the rows that the models made; rows that a person
    made or edited are left out.
    """
    settings = get_settings()
    database, store = Database(settings.database_url), open_store(settings)
    try:
        with database.read() as session:
            row = video_queries.require(session, validate_identifier(video))
            said = _transcript(session, row)
            rows = moment_queries.of_video(session, row.id)
    finally:
        database.dispose()
    derived = {
        asset: derive(archive, said, video)
        for asset, derive in (("moments", _moments), ("refined_moments", _refined), ("scores", _scores))
        if (archive := _archive(store, video, asset))
    }
    if not derived:
        raise NotFound(f"No answers are kept for video {video!r}.", hint="`videomoments run` keeps them.")
    differences = [line for asset, found in derived.items() for line in _compared(asset, found, rows)]
    if json_output:
        print_json(
            {
                "video_id": video,
                "derived": derived,
                "differences": differences,
            }
        )
    else:
        _show(derived.get("moments", {}))
        for line in differences:
            messages().print(escape(line), soft_wrap=True)
        counts = ", ".join(f"{len(found)} {asset.replace('_', ' ')}" for asset, found in derived.items())
        messages().print(
            f"Derived again: {counts}; " + (f"{len(differences)} differ." if differences else "all equal.")
        )
    if differences:
        raise typer.Exit(1)


def _transcript(session: Session, video: Video) -> Transcript:
    row = transcript_queries.get(session, video.id)
    if row is None:
        raise NotFound(f"Video {video.identifier!r} has no transcript yet.")
    return Transcript.from_rows(row.word_timestamps, row.segment_timestamps, row.language or "en")


def _archive(store: ObjectStore, video: str, asset: str) -> Archive | None:
    name = names.answers(video, asset)
    if store.stat(name) is None:
        return None
    with TemporaryDirectory() as directory, store.local_copy(name, Path(directory)) as path:
        return Archive.decode(path.read_bytes())


def _moments(archive: Archive, said: Transcript, video: str) -> _Rows:
    found = replay_moments(archive, said).moments
    return {
        moment_identifier(video, "generated", m.start_ms, m.end_ms): (
            to_seconds(m.start_ms),
            to_seconds(m.end_ms),
            m.title,
        )
        for m in found
    }


def _refined(archive: Archive, said: Transcript, video: str) -> _Rows:
    found = replay_refinements(archive, said)
    return {parent: (to_seconds(new.start_ms), to_seconds(new.end_ms)) for parent, new in found.items() if new.changed}


def _scores(archive: Archive, said: Transcript, video: str) -> _Rows:
    return {identifier: (score.value,) for identifier, score in replay_scores(archive, said).items()}


def _compared(asset: str, derived: _Rows, rows: list[MomentView]) -> list[str]:
    """What differs between what is derived and the rows, one line each.

    Left out is what a person made, edited or keeps in place by an edit, and what answers say of moments that were
    replaced since.
    """
    there = {m.identifier for m in rows}
    of_people = {m.identifier for m in rows if m.edited_at or not m.generation_model}
    with_edited_child = {m.parent_identifier for m in rows if m.edited_at and m.parent_identifier}
    if asset == "moments":
        stored: _Rows = {m.identifier: (m.start_time, m.end_time, m.title) for m in rows if not m.is_refined}
        left_out = of_people | (with_edited_child - derived.keys())
    elif asset == "refined_moments":
        stored = {m.parent_identifier: (m.start_time, m.end_time) for m in rows if m.parent_identifier}
        left_out = with_edited_child | (derived.keys() - there)
    else:
        stored = {m.identifier: (m.score,) for m in rows if m.identifier in derived}
        left_out = of_people | (derived.keys() - there)
    lines = []
    for key in [*derived, *(key for key in stored if key not in derived)]:
        if key not in left_out and derived.get(key) != stored.get(key):
            said, kept = (_told(side.get(key)) for side in (derived, stored))
            lines.append(f"{asset.replace('_', ' ')}, {key}: {said} derived, {kept} stored.")
    return lines


def _told(row: tuple[Any, ...] | None) -> str:
    return "nothing is" if row is None else f"{', '.join(map(str, row))} is"


def _show(moments: _Rows) -> None:
    table = Table("start", "end", "title", box=None)
    for start, end, title in moments.values():
        table.add_row(clock(start), clock(end), escape(title))
    if moments:
        console().print(table)
