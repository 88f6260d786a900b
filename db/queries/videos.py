"""Videos: the stored ones, by identifier or source, and the overview that lists show."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, NoReturn

from sqlalchemy import ColumnElement, ScalarSelect, String, bindparam, exists, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Clip, Moment, PipelineRun, Thumbnail, Transcript, Video
from db.queries import runs
from db.queries.paging import DEFAULT_LIMIT, Keyset, Page
from db.query import Query
from videomoments_dagster.errors import NotFound

_LITERALLY = str.maketrans({character: f"\\{character}" for character in "%_\\"})


class VideoSummary(NamedTuple):
    """A video's columns, and what exists for it. URLs are the store's, unsigned."""

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
    has_moments: bool
    thumbnail_cloud_url: str | None


class VideoOverview(NamedTuple):
    """A video, what exists for it, and how much of it."""

    summary: VideoSummary
    number_of_moments: int
    number_of_refined_moments: int
    number_of_clips: int


def get(session: Session, identifier: str) -> Video | None:
    return session.scalar(select(Video).where(Video.identifier == identifier))


def require(session: Session, identifier: str) -> Video:
    """`get`, but raises NotFound."""
    return get(session, identifier) or _missing(identifier)


def existing(identifier: str) -> Query[int]:
    """Its row's id; its result raises NotFound."""
    return Query(_EXISTING, {"identifier": identifier}, lambda rows: rows[0][0] if rows else _missing(identifier))


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
    *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, q: str | None = None, has_moments: bool | None = None
) -> Query[Page[VideoSummary]]:
    """Newest first. `q`: part of the title or identifier, in any case, taken literally. Raises InvalidInput for a limit
    outside 1..200 and for a cursor that no page gave."""
    values = {"part": f"%{q.translate(_LITERALLY)}%"} if q else {}
    pages = _pages(has_part=bool(q), has_moments=has_moments)
    return pages.query(limit=limit, cursor=cursor, values=values, make=VideoSummary._make)


def overview(identifier: str) -> Query[VideoOverview]:
    """One video with its counts; its result raises NotFound."""

    def one(rows: Sequence[Any]) -> VideoOverview:
        if not rows:
            _missing(identifier)
        *summary, moments, refined, clips = rows[0]
        return VideoOverview(VideoSummary._make(summary), moments, refined, clips)

    return Query(_OVERVIEW, {"identifier": identifier}, one)


def _summary() -> list[ColumnElement[Any]]:
    """The columns of VideoSummary, in its order."""
    derived: dict[str, ColumnElement[Any]] = {
        "has_transcript": _of_this(Transcript.id, Transcript.video_id).is_not(None),
        "has_moments": _of_this(Moment.id, Moment.video_id).is_not(None),
        "thumbnail_cloud_url": _of_this(Thumbnail.cloud_url, Thumbnail.video_id),
    }
    names = VideoSummary._fields
    return [derived[name].label(name) if name in derived else getattr(Video, name) for name in names]


def _counts() -> list[ColumnElement[Any]]:
    """Of root moments, refined moments and clips."""
    counted = select(func.count()).where(Moment.video_id == Video.id).correlate(Video)
    clips = select(func.count()).where(Clip.video_id == Video.id).correlate(Video)
    return [
        each.scalar_subquery() for each in (counted.where(~Moment.is_refined), counted.where(Moment.is_refined), clips)
    ]


def _of_this(found: InstrumentedAttribute[Any], video_id: InstrumentedAttribute[Any]) -> ScalarSelect[Any]:
    """One of the video's. With EXISTS, PostgreSQL would read the whole table once for a page: it thinks that this is
    asked of every video."""
    return select(found).where(video_id == Video.id).correlate(Video).limit(_ONE).scalar_subquery()


_ONE = literal_column("1")
_EXISTING = select(Video.id).where(Video.identifier == bindparam("identifier"))
_HAS_MOMENTS = exists().where(Moment.video_id == Video.id)
_OVERVIEW = select(*_summary(), *_counts()).where(Video.identifier == bindparam("identifier"))


@cache
def _pages(*, has_part: bool, has_moments: bool | None) -> Keyset:
    """Of each of the six, two statements."""
    statement = select(*_summary())
    if has_part:
        part = bindparam("part", type_=String)
        statement = statement.where(or_(Video.title.ilike(part), Video.identifier.ilike(part)))
    if has_moments is not None:
        statement = statement.where(_HAS_MOMENTS if has_moments else ~_HAS_MOMENTS)
    return Keyset(statement, time=Video.created_at, identifier=Video.identifier)


def _missing(identifier: str) -> NoReturn:
    raise NotFound(f"There is no video {identifier!r}.", hint="`videomoments list` shows the videos there are.")
