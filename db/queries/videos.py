"""Videos: the stored ones, by identifier or source, and the overview that lists show."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Clip, Moment, PipelineRun, Thumbnail, Transcript, Video
from db.queries import runs
from db.queries.paging import DEFAULT_LIMIT, Keyset, Page
from videomoments_dagster.errors import NotFound

_LITERALLY = str.maketrans({character: f"\\{character}" for character in "%_\\"})


@dataclass(frozen=True, slots=True)
class VideoOverview:
    """A video's columns, what exists for it, and how much of it. URLs are the store's, unsigned."""

    identifier: str
    title: str | None
    source_url: str | None
    cloud_url: str
    duration_seconds: float | None
    file_size_kb: int | None
    video_codec: str | None
    audio_codec: str | None
    resolution: str | None
    frame_rate: float | None
    created_at: datetime
    has_transcript: bool
    number_of_moments: int
    number_of_refined_moments: int
    number_of_clips: int
    thumbnail_cloud_url: str | None

    @property
    def has_audio(self) -> bool:
        return self.audio_codec is not None

    @property
    def has_moments(self) -> bool:
        return self.number_of_moments + self.number_of_refined_moments > 0


def get(session: Session, identifier: str) -> Video | None:
    return session.scalar(select(Video).where(Video.identifier == identifier))


def require(session: Session, identifier: str) -> Video:
    """`get`, but raises NotFound."""
    return get(session, identifier) or _missing(identifier)


def by_source_url(session: Session, source_url: str) -> Video | None:
    """The newest video that was fetched from exactly this (canonical) URL."""
    return session.scalar(
        select(Video).where(Video.source_url == source_url).order_by(Video.created_at.desc(), Video.id.desc()).limit(1)
    )


def upsert(
    session: Session,
    identifier: str,
    *,
    source_url: str | None,
    cloud_url: str,
    title: str | None,
    duration_seconds: float | None,
    file_size_kb: int | None,
    video_codec: str | None,
    audio_codec: str | None,
    resolution: str | None,
    frame_rate: float | None,
) -> Video:
    """Insert the video or bring its row up to date; a title of None keeps the one there is.

    Runs that failed before the video was stored become its runs.
    """
    values: dict[str, Any] = {
        "source_url": source_url,
        "cloud_url": cloud_url,
        "title": title,
        "duration_seconds": duration_seconds,
        "file_size_kb": file_size_kb,
        "video_codec": video_codec,
        "audio_codec": audio_codec,
        "resolution": resolution,
        "frame_rate": frame_rate,
    }
    statement = insert(Video).values(identifier=identifier, **values)
    statement = statement.on_conflict_do_update(
        index_elements=[Video.identifier],
        set_={**values, "title": func.coalesce(statement.excluded.title, Video.title)},
    )
    video = session.scalars(statement.returning(Video), execution_options={"populate_existing": True}).one()
    session.execute(update(PipelineRun).where(*runs.without_video(identifier)).values(video_id=video.id))
    return video


def page(
    session: Session,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    q: str | None = None,
    has_moments: bool | None = None,
) -> Page[VideoOverview]:
    """Newest first, in one query. `q`: part of the title or identifier, in any case, taken literally."""
    statement = _OVERVIEWS
    if q:
        part = f"%{q.translate(_LITERALLY)}%"
        statement = statement.where(or_(Video.title.ilike(part), Video.identifier.ilike(part)))
    if has_moments is not None:
        some = exists().where(Moment.video_id == Video.id)
        statement = statement.where(some if has_moments else ~some)
    keyset = _PAGES if statement is _OVERVIEWS else _pages(statement)
    return keyset.fetch(session, limit=limit, cursor=cursor, make=lambda row: VideoOverview(*row))


def overview(session: Session, identifier: str) -> VideoOverview:
    """One video as lists show it. Raises NotFound."""
    row = session.execute(_OVERVIEW, {"identifier": identifier}).one_or_none()
    return VideoOverview(*row) if row else _missing(identifier)


def _overviews() -> Select[Any]:
    """The columns of VideoOverview, in its order. PostgreSQL evaluates the counts for the page's rows only."""
    counted = select(func.count()).where(Moment.video_id == Video.id).correlate(Video)
    derived = {
        "has_transcript": exists().where(Transcript.video_id == Video.id),
        "number_of_moments": counted.where(~Moment.is_refined).scalar_subquery(),
        "number_of_refined_moments": counted.where(Moment.is_refined).scalar_subquery(),
        "number_of_clips": select(func.count()).where(Clip.video_id == Video.id).correlate(Video).scalar_subquery(),
        "thumbnail_cloud_url": select(Thumbnail.cloud_url)
        .where(Thumbnail.video_id == Video.id)
        .correlate(Video)
        .scalar_subquery(),
    }
    names = [field.name for field in fields(VideoOverview)]
    return select(*(derived[name].label(name) if name in derived else getattr(Video, name) for name in names))


def _pages(statement: Select[Any]) -> Keyset:
    return Keyset(statement, time=Video.created_at, identifier=Video.identifier)


_OVERVIEWS = _overviews()
_PAGES = _pages(_OVERVIEWS)
_OVERVIEW = _OVERVIEWS.where(Video.identifier == bindparam("identifier"))
"""Built once: building them costs more than asking."""


def _missing(identifier: str) -> Any:
    raise NotFound(f"There is no video {identifier!r}.", hint="`videomoments list` shows the videos there are.")
