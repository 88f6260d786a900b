"""Locks that last until the transaction ends."""

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.models import Video
from videomoments_dagster.errors import NotFound, VideoBusy

WAIT_SECONDS = 10.0
"""How long one waits for another's decision about the same video: a deletion holds the lock until it is done."""
_LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE


def lock_identifier(session: Session, video_identifier: str) -> None:
    """One transaction at a time may decide about requests for this video; it need not have a row yet. Raises VideoBusy
    after WAIT_SECONDS."""
    key = func.hashtextextended(f"pipeline_requests:{video_identifier}", 0)
    try:
        session.execute(
            select(
                func.set_config("lock_timeout", f"{int(WAIT_SECONDS * 1000)}ms", True),
                func.pg_advisory_xact_lock(key),
                func.set_config("lock_timeout", "0", True),
            )
        )
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise VideoBusy(f"Video {video_identifier!r} is being changed by another request.") from error


def confirm(session: Session) -> None:
    """Ask whether the locks of this transaction are still held: they end with their connection, which may break while
    nobody uses it. ServiceUnavailable is raised when they are not."""
    session.execute(select(1))


def lock_rows_of(session: Session, video_id: int) -> None:
    """One transaction at a time may replace what hangs off this video. Raises NotFound when the video is gone.

    Rows that only refer to the video can be inserted meanwhile (FOR NO KEY UPDATE).
    """
    locked = select(Video.id).where(Video.id == video_id).with_for_update(key_share=True)
    if session.scalar(locked) is None:
        raise NotFound("The video was deleted meanwhile.")
