"""What the consistency sweep asks: pages of what rows promise, in the order in which stores list names, and which of
many things rows know. A page is bounded by its videos; what hangs off one video is bounded by its moments.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, tuple_, union_all
from sqlalchemy.orm import Session

from db.models import Clip, PipelineRequest, PipelineRun, Thumbnail, Transcript, TranscriptPassage, Video
from db.queries.requests import ACTIVE


@dataclass(frozen=True, slots=True)
class Promise:
    """What the rows of a video say is in the object store: cloud URLs. `source_url` is None for an upload."""

    identifier: str
    source_url: str | None
    cloud_url: str
    others: tuple[str, ...]

    @property
    def cloud_urls(self) -> tuple[str, ...]:
        return (self.cloud_url, *self.others)


@dataclass(frozen=True, slots=True)
class Running:
    """A history row that says its run has not ended. Without a video's row, a long video identifier is cut."""

    identifier: str
    video: str
    pipeline_type: str
    started_at: datetime


def promises_after(session: Session, identifier: str | None, limit: int) -> list[Promise]:
    """The page of videos after `identifier` (None: the first) in the order of the names of their objects."""
    statement = select(Video).order_by(_in_names(Video.identifier)).limit(limit)
    if identifier is not None:
        statement = statement.where(_in_names(Video.identifier) > f"{identifier}/")
    return _promises(session, statement)


def promises_of(session: Session, identifiers: Collection[str]) -> dict[str, Promise]:
    """By identifier, of those that have a row."""
    found = _promises(session, select(Video).where(Video.identifier.in_(identifiers)))
    return {promise.identifier: promise for promise in found}


def known_videos(session: Session, identifiers: Collection[str]) -> set[str]:
    """Which of `identifiers` have a video or were ever asked for."""
    return set(
        session.scalars(
            union_all(
                select(Video.identifier).where(Video.identifier.in_(identifiers)),
                select(PipelineRequest.video_identifier).where(PipelineRequest.video_identifier.in_(identifiers)),
            )
        )
    )


def active_videos(session: Session, identifiers: Collection[str]) -> set[str]:
    """Which of `identifiers` have a request that waits or runs."""
    return set(
        session.scalars(
            select(PipelineRequest.video_identifier).where(
                PipelineRequest.video_identifier.in_(identifiers), PipelineRequest.state.in_(ACTIVE)
            )
        )
    )


def requests_of(session: Session, request_ids: Collection[str]) -> dict[str, PipelineRequest]:
    """By id, of those that are known."""
    found = session.scalars(select(PipelineRequest).where(PipelineRequest.request_id.in_(request_ids)))
    return {request.request_id: request for request in found}


def active_after(
    session: Session, after: tuple[datetime, int] | None, *, before: datetime, limit: int
) -> list[PipelineRequest]:
    """The page after (updated_at, id) of requests that have not ended and were last heard of before `before`."""
    place = tuple_(PipelineRequest.updated_at, PipelineRequest.id)
    statement = select(PipelineRequest).where(PipelineRequest.state.in_(ACTIVE), PipelineRequest.updated_at < before)
    if after:
        statement = statement.where(place > after)
    return list(session.scalars(statement.order_by(*place).limit(limit)))


def running_after(session: Session, identifier: str | None, *, before: datetime, limit: int) -> list[Running]:
    """The page after `identifier` of history rows that say `running` and began before `before`."""
    video = func.coalesce(Video.identifier, func.split_part(PipelineRun.identifier, ":", 2))
    statement = (
        select(PipelineRun.identifier, video, PipelineRun.pipeline_type, PipelineRun.started_at)
        .outerjoin(Video, Video.id == PipelineRun.video_id)
        .where(PipelineRun.status == "running", PipelineRun.started_at < before)
        .order_by(PipelineRun.identifier)
        .limit(limit)
    )
    if identifier is not None:
        statement = statement.where(PipelineRun.identifier > identifier)
    return [Running(*row) for row in session.execute(statement)]


def without_passages_after(
    session: Session, transcript_id: int, limit: int
) -> tuple[list[tuple[str, int]], int | None]:
    """Of the `limit` transcripts after `transcript_id` those that have text and no passages, with their videos'
    identifiers; and the last that was looked at, None at the end."""
    following = select(Transcript.id).where(Transcript.id > transcript_id).order_by(Transcript.id).limit(limit)
    looked_at = session.scalars(following).all()
    if not looked_at:
        return [], None
    statement = (
        select(Video.identifier, Transcript.id)
        .join(Video, Video.id == Transcript.video_id)
        .where(
            Transcript.id.in_(looked_at),
            ~exists().where(TranscriptPassage.transcript_id == Transcript.id),
            or_(Transcript.full_text != "", Transcript.number_of_words > 0, Transcript.number_of_segments > 0),
        )
        .order_by(Transcript.id)
    )
    return [(video, found) for video, found in session.execute(statement)], looked_at[-1]


def is_empty(session: Session) -> bool:
    """Whether there is neither a video nor a request: a new database, or not the one that was meant."""
    nothing = select(Video.id).limit(1), select(PipelineRequest.id).limit(1)
    return all(session.scalar(statement) is None for statement in nothing)


def _in_names(identifier: Any) -> ColumnElement[str]:
    """In names a slash follows, so that 'a-b' comes before 'a'; stores order by code point, whatever the database's
    collation."""
    return (identifier + "/").collate("C")


def _promises(session: Session, videos: Select[tuple[Video]]) -> list[Promise]:
    page = session.scalars(videos).all()
    ids = [video.id for video in page]
    others: dict[int, list[str]] = defaultdict(list)
    for video_id, cloud_url in session.execute(
        union_all(
            select(Clip.video_id, Clip.cloud_url).where(Clip.video_id.in_(ids)),
            select(Thumbnail.video_id, Thumbnail.cloud_url).where(Thumbnail.video_id.in_(ids)),
            select(Clip.video_id, Thumbnail.cloud_url)
            .join(Clip, Clip.id == Thumbnail.clip_id)
            .where(Clip.video_id.in_(ids)),
        )
    ):
        others[video_id].append(cloud_url)
    return [Promise(v.identifier, v.source_url, v.cloud_url, tuple(others[v.id])) for v in page]
