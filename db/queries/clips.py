"""Clips: the files of root moments."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Clip, Moment, Thumbnail, Video
from db.queries.paging import MAX_UNPAGED
from videomoments_dagster.errors import Conflict, NotFound

CUT_TOLERANCE_SECONDS = 0.25
"""A clip starts with the first frame or audio packet that it can and ends with the last whole one: so much it may lack
at an end of what it was cut for, and cutting again would bring no more."""
_ROUNDING_SECONDS = 0.002
_Text = ColumnElement[str] | InstrumentedAttribute[str]
_Seconds = ColumnElement[float] | InstrumentedAttribute[float]


class ClipView(NamedTuple):
    """A clip, the moment whose it is, as that is now, and its picture. Times are seconds of the source video; URLs are
    the store's, unsigned."""

    id: int
    moment_identifier: str
    title: str
    moment_start_time: float
    moment_end_time: float
    cloud_url: str
    start_time: float
    end_time: float
    padding_left: float | None
    padding_right: float | None
    file_size_kb: int | None
    format: str | None
    video_codec: str | None
    audio_codec: str | None
    resolution: str | None
    created_at: datetime
    thumbnail_cloud_url: str | None

    @property
    def is_current(self) -> bool:
        """Whether it shows the moment whose it is, which a person may have moved since: the file holds it, or was cut
        for its very times. The paddings say which those were."""
        cut_from = min(self.start_time, self.start_time + (self.padding_left or 0.0))
        cut_until = max(self.end_time, self.end_time - (self.padding_right or 0.0))
        return (
            cut_from - _ROUNDING_SECONDS <= self.moment_start_time
            and self.moment_end_time <= cut_until + _ROUNDING_SECONDS
        )

    def shows(self, start_time: float, end_time: float) -> bool:
        """Whether it shows another moment, a refinement of its own: all of it that could be cut."""
        return (
            self.start_time - CUT_TOLERANCE_SECONDS <= start_time and end_time <= self.end_time + CUT_TOLERANCE_SECONDS
        )


@dataclass(frozen=True, slots=True)
class StoredClip:
    """The row as it is now, and the object it no longer names: delete that after the commit."""

    clip: Clip
    replaced_cloud_url: str | None


def of_video(session: Session, video_id: int) -> list[ClipView]:
    """In the order of the video, in one query."""
    statement = (
        select(*view_columns(Moment.identifier, Moment.title, Moment.start_time, Moment.end_time))
        .select_from(Clip)
        .join(Moment, Moment.id == Clip.moment_id)
        .outerjoin(Thumbnail, Thumbnail.clip_id == Clip.id)
        .where(Clip.video_id == video_id)
        .order_by(Clip.start_time, Clip.id)
        .limit(MAX_UNPAGED)
    )
    return [ClipView(*row) for row in session.execute(statement)]


def video_of(session: Session, clip_id: int) -> Video:
    """Raises NotFound when the clip is gone."""
    video = session.scalar(select(Video).join(Clip, Clip.video_id == Video.id).where(Clip.id == clip_id))
    if video is None:
        raise NotFound("The clip was deleted meanwhile.")
    return video


def view_columns(identifier: _Text, title: _Text, start_time: _Seconds, end_time: _Seconds) -> list[Any]:
    """The columns of ClipView, in its order, for a statement that joins Clip and Thumbnail; those given are of the
    moment whose clip it is."""
    others = {
        "moment_identifier": identifier,
        "title": title,
        "moment_start_time": start_time,
        "moment_end_time": end_time,
        "thumbnail_cloud_url": Thumbnail.cloud_url,
    }
    return [others[name] if name in others else getattr(Clip, name) for name in ClipView._fields]


def upsert(
    session: Session,
    moment_id: int,
    video_id: int,
    *,
    cloud_url: str,
    start_time: float,
    end_time: float,
    padding_left: float | None,
    padding_right: float | None,
    file_size_kb: int | None,
    format: str | None,  # the column's name
    video_codec: str | None,
    audio_codec: str | None,
    resolution: str | None,
) -> StoredClip:
    """Insert the moment's clip or replace its row, which keeps its id and so its thumbnail.

    Raises NotFound when the moment was deleted meanwhile, Conflict when it is a refined one or of another video
    (the database refuses that too).
    """
    values: dict[str, Any] = {
        "cloud_url": cloud_url,
        "start_time": start_time,
        "end_time": end_time,
        "padding_left": padding_left,
        "padding_right": padding_right,
        "file_size_kb": file_size_kb,
        "format": format,
        "video_codec": video_codec,
        "audio_codec": audio_codec,
        "resolution": resolution,
    }
    before = session.execute(
        select(Moment.identifier, Moment.is_refined, Moment.video_id, Clip.cloud_url)
        .outerjoin(Clip, Clip.moment_id == Moment.id)
        .where(Moment.id == moment_id)
        .with_for_update(of=Moment, key_share=True)
    ).one_or_none()
    if before is None:
        raise NotFound("The moment of this clip was deleted meanwhile.")
    if before.is_refined or before.video_id != video_id:
        raise Conflict(
            f"Moment {before.identifier} can't have a clip here.", hint="Clips belong to root moments of their video."
        )
    statement = (
        insert(Clip)
        .values(moment_id=moment_id, video_id=video_id, **values)
        .on_conflict_do_update(index_elements=[Clip.moment_id], set_=values)
        .returning(Clip)
    )
    clip = session.scalars(statement, execution_options={"populate_existing": True}).one()
    return StoredClip(clip, before.cloud_url if before.cloud_url != cloud_url else None)
