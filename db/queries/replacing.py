"""How a model's moments replace what a model made before, without touching what a person made or changed.

A moment is a person's when no model made it (`generation_model` null) or when it was edited (`edited_at` set).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from db.models import Clip, Moment, Thumbnail
from db.queries.locks import lock_rows_of
from videomoments_dagster.errors import Conflict

BY_A_MODEL = and_(Moment.generation_model.is_not(None), Moment.edited_at.is_(None))
_SCORING = ("score", "scoring_model", "scored_at")


@dataclass(frozen=True, slots=True)
class NewMoment:
    """A root moment as a model found it. Times are seconds; `score` is the finder's own, 0..10."""

    identifier: str
    start_time: float
    end_time: float
    title: str
    score: int | None = None


@dataclass(frozen=True, slots=True)
class NewRefined:
    """Better boundaries for the root moment `parent_identifier`, and the model they come from. Times are seconds;
    `refined_start_time` and `refined_end_time` are the boundaries that the model was shown."""

    identifier: str
    parent_identifier: str
    refined_start_time: float
    refined_end_time: float
    start_time: float
    end_time: float
    title: str
    generation_model: str
    generation_config_id: int | None = None


@dataclass(frozen=True, slots=True)
class ReplacedMoments:
    """`kept`: moments of this kind that stayed for a person's sake. `removed_cloud_urls`: objects of clips and
    thumbnails that no row names any more; delete them after the commit."""

    kept: int
    removed_cloud_urls: list[str]


def replace_generated(
    session: Session,
    video_id: int,
    moments: Sequence[NewMoment],
    *,
    generation_model: str,
    generation_config_id: int | None,
) -> ReplacedMoments:
    """Make `moments` the video's only root moments that are a model's; refined children go with their roots.

    A moment that is there under the same identifier is updated in place and keeps its clip, its refined child and its
    score. A person's version of it wins over the new one. A root whose refined child was edited stays: without it
    the child would have neither parent nor clip. Raises NotFound when the video is gone.
    """
    lock_rows_of(session, video_id)
    wanted = {moment.identifier: moment for moment in moments}
    child = aliased(Moment)
    old_roots = select(Moment.id).where(
        Moment.video_id == video_id,
        ~Moment.is_refined,
        BY_A_MODEL,
        Moment.identifier.not_in(wanted),
        ~exists().where(child.parent_id == Moment.id, child.edited_at.is_not(None)),
    )
    without_root = and_(Moment.video_id == video_id, Moment.is_refined, Moment.parent_id.is_(None), BY_A_MODEL)
    removed = remove_moments(session, or_(Moment.id.in_(old_roots), Moment.parent_id.in_(old_roots), without_root))
    _write(
        session,
        video_id,
        [
            {
                "identifier": moment.identifier,
                "start_time": moment.start_time,
                "end_time": moment.end_time,
                "title": moment.title,
                "is_refined": False,
                "generation_model": generation_model,
                "generation_config_id": generation_config_id,
                "score": moment.score,
                "scoring_model": None if moment.score is None else generation_model,
                "scored_at": None if moment.score is None else func.now(),
            }
            for moment in wanted.values()
        ],
    )
    return ReplacedMoments(_kept(session, video_id, wanted, refined=False), removed)


def replace_refined(
    session: Session,
    video_id: int,
    refined: Sequence[NewRefined],
    *,
    only_parent: str | None = None,
) -> ReplacedMoments:
    """Make `refined` the video's only refined moments that are a model's, or `only_parent`'s only ones. Scores of
    unchanged ones stay.

    Left out are those whose parent was deleted or moved meanwhile or is no root moment of the video, and those whose
    parent has a refined child that a person edited: that one stands. Raises NotFound when the video is gone.
    """
    lock_rows_of(session, video_id)
    child = aliased(Moment)
    roots = session.execute(
        select(Moment.identifier, Moment.id, Moment.start_time, Moment.end_time).where(
            Moment.video_id == video_id,
            ~Moment.is_refined,
            Moment.identifier.in_({moment.parent_identifier for moment in refined}),
            ~exists().where(child.parent_id == Moment.id, child.edited_at.is_not(None)),
        )
    ).all()
    parents = {(root.identifier, root.start_time, root.end_time): root.id for root in roots}
    parent_of = {
        moment.identifier: parents.get((moment.parent_identifier, moment.refined_start_time, moment.refined_end_time))
        for moment in refined
    }
    wanted = {moment.identifier: moment for moment in refined if parent_of[moment.identifier] is not None}
    old = and_(Moment.video_id == video_id, Moment.is_refined, BY_A_MODEL, Moment.identifier.not_in(wanted))
    if only_parent is not None:
        parent = select(Moment.id).where(Moment.video_id == video_id, Moment.identifier == only_parent)
        old = and_(old, Moment.parent_id == parent.scalar_subquery())
    removed = remove_moments(session, old)
    _write(
        session,
        video_id,
        [
            {
                "identifier": moment.identifier,
                "parent_id": parent_of[moment.identifier],
                "start_time": moment.start_time,
                "end_time": moment.end_time,
                "title": moment.title,
                "is_refined": True,
                "generation_model": moment.generation_model,
                "generation_config_id": moment.generation_config_id,
            }
            for moment in wanted.values()
        ],
    )
    return ReplacedMoments(_kept(session, video_id, wanted, refined=True), removed)


def remove_moments(session: Session, condition: ColumnElement[bool]) -> list[str]:
    """Delete the moments with clips and thumbnails; returns both's cloud_urls: delete the objects after the commit.
    Locked first, so that what a person edits at this instant is either seen as edited or gone before the edit."""
    ids = list(session.scalars(select(Moment.id).where(condition).with_for_update(of=Moment)))
    if not ids:
        return []
    clips = select(Clip.cloud_url).where(Clip.moment_id.in_(ids))
    pictures = select(Thumbnail.cloud_url).join(Clip, Clip.id == Thumbnail.clip_id).where(Clip.moment_id.in_(ids))
    urls = list(session.scalars(union_all(clips, pictures)))
    session.execute(delete(Moment).where(Moment.id.in_(ids)), execution_options={"synchronize_session": False})
    return urls


def _write(session: Session, video_id: int, rows: list[dict[str, Any]]) -> None:
    """Insert, or update in place what is a model's. A score that is there stays until it is scored again."""
    if not rows:
        return
    statement = insert(Moment).values([{"video_id": video_id, **row} for row in rows])
    changed: dict[str, Any] = {
        name: statement.excluded[name] for name in rows[0] if name not in {"identifier", *_SCORING}
    }
    for name in set(_SCORING) & set(rows[0]):
        changed[name] = func.coalesce(getattr(Moment, name), statement.excluded[name])
    mine = and_(BY_A_MODEL, Moment.video_id == video_id, Moment.is_refined == statement.excluded.is_refined)
    session.execute(
        statement.on_conflict_do_update(index_elements=[Moment.identifier], set_=changed, where=mine),
        execution_options={"synchronize_session": False},
    )
    taken = select(Moment.identifier).where(
        Moment.identifier.in_([row["identifier"] for row in rows]), Moment.video_id != video_id
    )
    if other := session.scalar(taken.limit(1)):
        raise Conflict(f"Moment identifier {other} belongs to another video.")


def _kept(session: Session, video_id: int, written: Iterable[str], *, refined: bool) -> int:
    """Moments of this kind that were not asked for, or that are a person's version of one that was."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Moment)
            .where(
                Moment.video_id == video_id,
                Moment.is_refined.is_(refined),
                or_(Moment.identifier.not_in(list(written)), ~BY_A_MODEL),
            )
        )
        or 0
    )
