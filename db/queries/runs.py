"""Pipeline history: one row per run, written when a run begins or ends, kept as long as its video."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Clip, Moment, PipelineRun, Video
from db.queries.paging import DEFAULT_LIMIT, Keyset, Page

_IDENTIFIER_CHARACTERS = 100  # pipeline_history.identifier
VIDEO_CHARACTERS = _IDENTIFIER_CHARACTERS - len("pipeline:") - len(":1234567890123")
"""Of a video identifier that is whole in its runs' identifiers; a longer one is cut to as many."""
_DIGEST_CHARACTERS = 6


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as history shows it."""

    identifier: str
    video_identifier: str
    pipeline_type: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    duration_seconds: float | None
    total_moments_generated: int | None
    total_clips_created: int | None
    error_stage: str | None
    error_message: str | None


def run_identifier(video_identifier: str, started_at: datetime) -> str:
    """`pipeline:{video}:{epoch_ms}`. A video identifier over 77 characters is cut and given a digest: the column
    holds 100."""
    return f"pipeline:{_video_key(video_identifier)}:{int(started_at.timestamp() * 1000)}"


def record(
    session: Session,
    *,
    video_identifier: str,
    pipeline_type: str,
    status: str,
    started_at: datetime,
    completed_at: datetime | None = None,
    generation_config_id: int | None = None,
    total_moments_generated: int | None = None,
    total_clips_created: int | None = None,
    error_stage: str | None = None,
    error_message: str | None = None,
) -> PipelineRun:
    """Insert or update the run of this video that began at `started_at`; saying the same again changes nothing.

    `running` never overwrites an end that is recorded. For `completed` and `partial`, what is not given is what the
    video has now: its configuration, model-made root moments and clips.
    """
    video_id = session.scalar(select(Video.id).where(Video.identifier == video_identifier))
    values: dict[str, Any] = {
        "video_id": video_id,
        "pipeline_type": pipeline_type,
        "status": status,
        "started_at": started_at,
        "completed_at": completed_at,
        "duration_seconds": (completed_at - started_at).total_seconds() if completed_at else None,
        "generation_config_id": generation_config_id,
        "total_moments_generated": total_moments_generated,
        "total_clips_created": total_clips_created,
        "error_stage": error_stage,
        "error_message": error_message,
    }
    if status in {"completed", "partial"} and video_id is not None:
        for name, found in _results(video_id).items():
            if values[name] is None:
                values[name] = found.scalar_subquery()
    identifier = run_identifier(video_identifier, started_at)
    statement = insert(PipelineRun).values(identifier=identifier, **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[PipelineRun.identifier],
            set_={name: statement.excluded[name] for name in values},
            where=or_(statement.excluded.status != "running", PipelineRun.status == "running"),
        )
    )
    return session.scalars(
        select(PipelineRun).where(PipelineRun.identifier == identifier), execution_options={"populate_existing": True}
    ).one()


def page(
    session: Session, video_identifier: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[RunView]:
    """The runs of one video, newest first; those of a video that was never stored, too."""
    return _page(session, _views().where(_mine(session, video_identifier)), limit, cursor)


def recent(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[RunView]:
    """The runs of all videos, newest first."""
    return _page(session, _views(), limit, cursor)


def get(session: Session, video_identifier: str, identifier: str) -> RunView | None:
    """The run of this video with this identifier."""
    row = session.execute(
        _views().where(PipelineRun.identifier == identifier, _mine(session, video_identifier))
    ).one_or_none()
    return RunView(*row) if row else None


def running(session: Session, video_identifier: str) -> str | None:
    """The identifier of the video's newest run whose end is not recorded."""
    return session.scalar(
        select(PipelineRun.identifier)
        .where(_mine(session, video_identifier), PipelineRun.status == "running")
        .order_by(PipelineRun.started_at.desc())
        .limit(1)
    )


def without_video(video_identifier: str) -> tuple[ColumnElement[bool], ...]:
    """The conditions for the runs of a video that had no row when they were recorded."""
    return (
        PipelineRun.video_id.is_(None),
        func.split_part(PipelineRun.identifier, ":", 2) == _video_key(video_identifier),
    )


def _mine(session: Session, video_identifier: str) -> ColumnElement[bool]:
    video_id = session.scalar(select(Video.id).where(Video.identifier == video_identifier))
    return and_(*without_video(video_identifier)) if video_id is None else PipelineRun.video_id == video_id


def _video_key(video_identifier: str) -> str:
    if len(video_identifier) <= VIDEO_CHARACTERS:
        return video_identifier
    digest = hashlib.sha256(video_identifier.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{video_identifier[: VIDEO_CHARACTERS - _DIGEST_CHARACTERS - 1]}-{digest}"


def _results(video_id: int) -> dict[str, Select[Any]]:
    roots = (Moment.video_id == video_id, ~Moment.is_refined, Moment.generation_model.is_not(None))
    return {
        "generation_config_id": select(Moment.generation_config_id)
        .where(*roots, Moment.generation_config_id.is_not(None))
        .order_by(Moment.updated_at.desc(), Moment.id.desc())
        .limit(1),
        "total_moments_generated": select(func.count()).select_from(Moment).where(*roots),
        "total_clips_created": select(func.count()).select_from(Clip).where(Clip.video_id == video_id),
    }


def _views() -> Select[Any]:
    """The columns of RunView, in its order. No join: PostgreSQL looks up the videos of the page's rows only."""
    stored = select(Video.identifier).where(Video.id == PipelineRun.video_id).correlate(PipelineRun).scalar_subquery()
    return select(
        PipelineRun.identifier,
        func.coalesce(stored, func.split_part(PipelineRun.identifier, ":", 2)).label("video_identifier"),
        PipelineRun.pipeline_type,
        PipelineRun.status,
        PipelineRun.started_at,
        PipelineRun.completed_at,
        PipelineRun.duration_seconds,
        PipelineRun.total_moments_generated,
        PipelineRun.total_clips_created,
        PipelineRun.error_stage,
        PipelineRun.error_message,
    )


def _page(session: Session, statement: Select[Any], limit: int, cursor: str | None) -> Page[RunView]:
    keyset = Keyset(statement, time=PipelineRun.started_at, identifier=PipelineRun.identifier)
    return keyset.fetch(session, limit=limit, cursor=cursor, make=lambda row: RunView(*row))
