"""Locks that last until the transaction ends."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Video
from videomoments_dagster.errors import NotFound


def lock_identifier(session: Session, video_identifier: str) -> None:
    """One transaction at a time may decide about requests for this video; it need not have a row yet."""
    session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"pipeline_requests:{video_identifier}", 0)))
    )


def lock_rows_of(session: Session, video_id: int) -> None:
    """One transaction at a time may replace what hangs off this video. Raises NotFound when the video is gone.

    Rows that only refer to the video can be inserted meanwhile (FOR NO KEY UPDATE).
    """
    locked = select(Video.id).where(Video.id == video_id).with_for_update(key_share=True)
    if session.scalar(locked) is None:
        raise NotFound("The video was deleted meanwhile.")
