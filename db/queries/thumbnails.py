"""Thumbnails: one a video, one a clip."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Clip, Moment, Thumbnail, Video
from db.queries.paging import MAX_UNPAGED
from videomoments_dagster.errors import NotFound


@dataclass(frozen=True, slots=True)
class ThumbnailView:
    """`moment_identifier` is None for the picture of the video itself. The URL is the store's, unsigned."""

    cloud_url: str
    file_size_kb: int | None
    moment_identifier: str | None


def set_video_thumbnail(session: Session, video_id: int, *, cloud_url: str, file_size_kb: int | None) -> str | None:
    """Returns the cloud_url it replaces when that is another one: delete the object after the commit. Raises NotFound
    when the owner is gone."""
    return _set(session, Thumbnail.video_id, video_id, cloud_url, file_size_kb)


def set_clip_thumbnail(session: Session, clip_id: int, *, cloud_url: str, file_size_kb: int | None) -> str | None:
    """Returns the cloud_url it replaces when that is another one: delete the object after the commit. Raises NotFound
    when the owner is gone."""
    return _set(session, Thumbnail.clip_id, clip_id, cloud_url, file_size_kb)


def of_video(session: Session, video_id: int) -> list[ThumbnailView]:
    """The video's own first, then its clips' in the order of the video; one query."""
    statement = (
        select(Thumbnail.cloud_url, Thumbnail.file_size_kb, Moment.identifier)
        .outerjoin(Clip, Clip.id == Thumbnail.clip_id)
        .outerjoin(Moment, Moment.id == Clip.moment_id)
        .where(or_(Thumbnail.video_id == video_id, Clip.video_id == video_id))
        .order_by(Clip.start_time.nulls_first(), Clip.id)
        .limit(MAX_UNPAGED + 1)
    )
    return [ThumbnailView(*row) for row in session.execute(statement)]


def _set(
    session: Session, owner: InstrumentedAttribute[Any], owner_id: int, cloud_url: str, file_size_kb: int | None
) -> str | None:
    table = Clip if owner is Thumbnail.clip_id else Video
    kept = select(table.id).where(table.id == owner_id).with_for_update(key_share=True, read=True)
    if session.scalar(kept) is None:
        raise NotFound("What this picture shows was deleted meanwhile.")
    before = session.scalar(select(Thumbnail.cloud_url).where(owner == owner_id).with_for_update())
    values = {"cloud_url": cloud_url, "file_size_kb": file_size_kb}
    session.execute(
        insert(Thumbnail)
        .values({owner.key: owner_id, **values})
        .on_conflict_do_update(index_elements=[owner], index_where=owner.is_not(None), set_=values)
    )
    return before if before != cloud_url else None
