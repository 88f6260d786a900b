"""Taking a video out of the database in two steps: first everything but its requests, which say until the second that
the rest of the video is still to be removed.
"""

import json
import uuid
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Clip, Moment, PipelineRequest, PipelineRun, Thumbnail, Transcript, Video
from db.queries import runs

_BEING_DELETED = {
    "stage": None,
    "code": "being_deleted",
    "message": "The video is being deleted.",
    "hint": "If that takes long it was interrupted: delete it again, or submit it anew.",
    "retryable": False,
}


def is_known(session: Session, video_identifier: str) -> bool:
    """Whether any row is the video's."""
    known = or_(
        exists().where(Video.identifier == video_identifier),
        exists().where(PipelineRequest.video_identifier == video_identifier),
        exists().where(*runs.without_video(video_identifier)),
    )
    return bool(session.scalar(select(known)))


def delete_rows(session: Session, video_identifier: str) -> dict[str, int]:
    """Remove every row of the video but its requests; returns how many of each table. What was active is rejected, and
    one request more says that the video is being deleted. Prompts and configurations are shared, and stay."""
    _begin(session, video_identifier)
    video = select(Video.id).where(Video.identifier == video_identifier).scalar_subquery()
    clips = select(Clip.id).where(Clip.video_id == video)
    steps: list[tuple[type[Any], Any]] = [
        (Thumbnail, or_(Thumbnail.video_id == video, Thumbnail.clip_id.in_(clips))),
        (Clip, Clip.video_id == video),
        (Moment, Moment.video_id == video),
        (Transcript, Transcript.video_id == video),
        (PipelineRun, or_(PipelineRun.video_id == video, and_(*runs.without_video(video_identifier)))),
        (Video, Video.identifier == video_identifier),
    ]
    return {table.__tablename__: _count(session, table, condition) for table, condition in steps}


def delete_requests(session: Session, video_identifier: str) -> int:
    """Remove the video's requests; returns how many there were. To be the last thing that is removed."""
    removed = session.scalars(
        delete(PipelineRequest)
        .where(PipelineRequest.video_identifier == video_identifier)
        .returning(PipelineRequest.request_id)
    ).all()
    return len(set(removed) - {_mark_of(video_identifier)})


def _begin(session: Session, video_identifier: str) -> None:
    error = json.dumps(_BEING_DELETED)
    session.execute(
        update(PipelineRequest)
        .where(PipelineRequest.video_identifier == video_identifier, PipelineRequest.state.in_(("queued", "launched")))
        .values(state="rejected", error=error)
    )
    mark = insert(PipelineRequest).values(
        request_id=_mark_of(video_identifier),
        video_identifier=video_identifier,
        pipeline_type="full",
        state="rejected",
        error=error,
    )
    session.execute(
        mark.on_conflict_do_update(
            index_elements=[PipelineRequest.request_id], set_={"requested_at": func.clock_timestamp()}
        )
    )


def _mark_of(video_identifier: str) -> str:
    """The same for every deletion of the video: an interrupted one leaves one row, however often."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"videomoments:deletion:{video_identifier}"))


def _count(session: Session, table: type[Any], condition: Any) -> int:
    return len(session.scalars(delete(table).where(condition).returning(table.id)).all())
