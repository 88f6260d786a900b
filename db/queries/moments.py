"""Moments as they are shown, and scores. How models' moments replace each other is in db/queries/replacing.py."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, String, bindparam, column, func, select, update, values
from sqlalchemy.orm import Session, aliased

from db.models import Clip, GenerationConfig, Moment, Thumbnail, Video
from db.queries.clips import ClipView, view_columns
from db.queries.paging import MAX_UNPAGED
from db.queries.replacing import NewMoment, NewRefined, ReplacedMoments, replace_generated, replace_refined
from db.query import Query
from videomoments_dagster.errors import NotFound

__all__ = [
    "MomentView",
    "NewMoment",
    "NewRefined",
    "ReplacedMoments",
    "get",
    "of_named_video",
    "of_video",
    "replace_generated",
    "replace_refined",
    "require",
    "set_scores",
    "view",
]

_PARENT = aliased(Moment, name="parent")
_MOMENT_COLUMNS = (
    Moment.id,
    Moment.video_id,
    Moment.identifier,
    Moment.title,
    Moment.start_time,
    Moment.end_time,
    Moment.is_refined,
    _PARENT.identifier.label("parent_identifier"),
    Moment.generation_model,
    GenerationConfig.config_hash.label("generation_config_hash"),
    Moment.score,
    Moment.scoring_model,
    Moment.scored_at,
    Moment.edited_at,
    Moment.created_at,
    Moment.updated_at,
)
_CLIP_COLUMNS = view_columns(
    func.coalesce(_PARENT.identifier, Moment.identifier),
    func.coalesce(_PARENT.title, Moment.title),
    func.coalesce(_PARENT.start_time, Moment.start_time),
    func.coalesce(_PARENT.end_time, Moment.end_time),
)

_VIEWS = (  # built once: building it costs a quarter of asking a small video
    select(*_MOMENT_COLUMNS, *_CLIP_COLUMNS)
    .select_from(Moment)
    .outerjoin(_PARENT, _PARENT.id == Moment.parent_id)
    .outerjoin(GenerationConfig, GenerationConfig.id == Moment.generation_config_id)
    .outerjoin(Clip, Clip.moment_id == func.coalesce(Moment.parent_id, Moment.id))
    .outerjoin(Thumbnail, Thumbnail.clip_id == Clip.id)
)


def _in_order(refined: bool | None, of_video: ColumnElement[bool]) -> Select[Any]:
    statement = _VIEWS.where(of_video)
    if refined is not None:
        statement = statement.where(Moment.is_refined if refined else ~Moment.is_refined)
    return statement.order_by(Moment.start_time, Moment.is_refined, Moment.id).limit(MAX_UNPAGED)


_NAMED = select(Video.id).where(Video.identifier == bindparam("identifier")).scalar_subquery()
_OF_VIDEO = {each: _in_order(each, Moment.video_id == bindparam("video_id")) for each in (None, True, False)}
_OF_NAMED_VIDEO = {each: _in_order(each, Moment.video_id == _NAMED) for each in (None, True, False)}


class MomentView(NamedTuple):
    """A moment with the clip it plays from: its own, or its parent's when it is refined. Times are seconds."""

    id: int
    video_id: int
    identifier: str
    title: str
    start_time: float
    end_time: float
    is_refined: bool
    parent_identifier: str | None
    generation_model: str | None
    generation_config_hash: str | None
    score: int | None
    scoring_model: str | None
    scored_at: datetime | None
    edited_at: datetime | None
    created_at: datetime
    updated_at: datetime
    clip: ClipView | None

    @property
    def playable(self) -> ClipView | None:
        """The clip, unless it does not show all of the moment: a person has moved that since the clip was cut."""
        if self.clip is None:
            return None
        is_shown = self.clip.shows(self.start_time, self.end_time) if self.is_refined else self.clip.is_current
        return self.clip if is_shown else None


def of_video(session: Session, video_id: int, *, refined: bool | None = None) -> list[MomentView]:
    """In the order of the video, a moment before the one that refines it; one query. None: both kinds."""
    return [_view(row) for row in session.execute(_OF_VIDEO[refined], {"video_id": video_id})]


def of_named_video(video: str, *, refined: bool | None = None) -> Query[list[MomentView]]:
    """The same by the video's identifier: none, too, when there is no such video (`videos.existing`)."""
    return Query(_OF_NAMED_VIDEO[refined], {"identifier": video}, lambda rows: [_view(row) for row in rows])


def get(session: Session, identifier: str) -> Moment | None:
    return session.scalar(select(Moment).where(Moment.identifier == identifier))


def view(session: Session, identifier: str) -> MomentView | None:
    row = session.execute(_VIEWS.where(Moment.identifier == identifier)).one_or_none()
    return _view(row) if row else None


def require(session: Session, video: Video, identifier: str) -> MomentView:
    """`view`, but of this video; raises NotFound."""
    found = view(session, identifier)
    if found is None or found.video_id != video.id:
        raise NotFound(f"Video {video.identifier!r} has no moment {identifier!r}.")
    return found


def set_scores(session: Session, scores: Mapping[str, int], *, scoring_model: str) -> int:
    """Scores 0..10 by moment identifier, in one statement. Returns how many moments there were to score."""
    if not scores:
        return 0
    given = values(column("identifier", String), column("score", Integer), name="given").data(list(scores.items()))
    result = session.execute(
        update(Moment)
        .where(Moment.identifier == given.c.identifier)
        .values(score=given.c.score, scoring_model=scoring_model, scored_at=func.now())
        .returning(Moment.id),
        execution_options={"synchronize_session": False},
    )
    return len(result.all())


def _view(row: Any) -> MomentView:
    clip = row[len(_MOMENT_COLUMNS) :]
    return MomentView(*row[: len(_MOMENT_COLUMNS)], clip=ClipView._make(clip) if clip[0] is not None else None)
