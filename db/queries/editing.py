"""What a person does to a video's moments: adds, changes and deletes them, one transaction at a time a video.

The video's lock is the one that re-generation takes (replacing.py): whoever comes second sees what the first one did.
"""

from collections.abc import Callable

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from db.models import Moment, Video
from db.queries.locks import lock_rows_of
from db.queries.moments import MomentView, require
from db.queries.paging import MAX_UNPAGED
from db.queries.replacing import BY_A_MODEL, remove_moments
from videomoments_dagster.errors import Conflict, NotFound

Check = Callable[[MomentView], None]
"""Raises when what is there is not what the caller wants to change."""


def add(
    session: Session, video: Video, *, identifier: str, title: str, start_time: float, end_time: float
) -> MomentView:
    """A root moment made by hand. The same title at the same times again is the one that is there: compare
    `identifier`. Raises NotFound when the video is gone, Conflict when it has as many moments as lists show."""
    lock_rows_of(session, video.id)
    same = select(Moment.identifier).where(
        Moment.video_id == video.id,
        Moment.start_time == start_time,
        Moment.end_time == end_time,
        Moment.title == title,
        Moment.generation_model.is_(None),
        ~Moment.is_refined,
    )
    if there := session.scalar(same.limit(1)):
        return require(session, video, there)
    if (session.scalar(select(func.count()).where(Moment.video_id == video.id)) or 0) >= MAX_UNPAGED:
        raise Conflict(f"Video {video.identifier!r} has {MAX_UNPAGED} moments: no list shows more.")
    session.add(Moment(identifier=identifier, video_id=video.id, title=title, start_time=start_time, end_time=end_time))
    session.flush()
    return require(session, video, identifier)


def change(
    session: Session,
    video: Video,
    identifier: str,
    check: Check,
    *,
    title: str | None = None,
    start_time: float | None = None,
    end_time: float | None = None,
) -> tuple[MomentView, list[str]]:
    """Give the moment what is not None, and note that a person did. `check` is shown what is there, under the lock.

    A model's refinement of boundaries that are no more goes with them; a person's stays. Returns the moment as it is
    now, and the cloud_urls that no row names any more: delete their objects after the commit. Raises NotFound, and
    what `check` raises.
    """
    before = _locked(session, video, identifier)
    check(before)
    start = before.start_time if start_time is None else start_time
    end = before.end_time if end_time is None else end_time
    removed: list[str] = []
    if (start, end) != (before.start_time, before.end_time) and not before.is_refined:
        removed = remove_moments(session, and_(Moment.parent_id == before.id, BY_A_MODEL))
    session.execute(
        update(Moment)
        .where(Moment.id == before.id)
        .values(title=title or before.title, start_time=start, end_time=end, edited_at=func.clock_timestamp()),
        execution_options={"synchronize_session": False},
    )
    return require(session, video, identifier), removed


def remove(session: Session, video: Video, identifier: str, check: Check) -> list[str]:
    """Delete the moment with its clip and, of a root moment, its refinements: a person's too, which would be left
    without parent and clip. Returns the cloud_urls of clips and thumbnails: delete their objects after the commit.
    Raises NotFound, and what `check` raises when it is shown the moment under the lock."""
    before = _locked(session, video, identifier)
    check(before)
    return remove_moments(session, or_(Moment.id == before.id, Moment.parent_id == before.id))


def _locked(session: Session, video: Video, identifier: str) -> MomentView:
    lock_rows_of(session, video.id)
    held = select(Moment.id).where(Moment.identifier == identifier, Moment.video_id == video.id).with_for_update()
    if session.scalar(held) is None:
        raise NotFound(f"Video {video.identifier!r} has no moment {identifier!r}.")
    return require(session, video, identifier)
