"""Builders of rows, each with values that only need saying when a test is about them. They flush and never commit."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from db.models import (
    ApiKey,
    Base,
    Clip,
    GenerationConfig,
    Moment,
    PipelineRequest,
    PipelineRun,
    Prompt,
    Thumbnail,
    Transcript,
    TranscriptPassage,
    Video,
    WebhookDelivery,
)

Row = TypeVar("Row", bound=Base)

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = count(1)


def minutes_later(minutes: float) -> datetime:
    """A fixed instant and so many minutes: order without a clock."""
    return BEGINNING + timedelta(minutes=minutes)


def video(session: Session, **values: Any) -> Video:
    identifier = values.pop("identifier", None) or f"video-{next(_numbers)}"
    defaults: dict[str, Any] = {
        "source_url": f"https://example.org/{identifier}.mp4",
        "cloud_url": f"gs://bucket/videos/{identifier}/{identifier}.mp4",
        "title": f"Title of {identifier}",
        "duration_seconds": 600.0,
        "video_codec": "h264",
        "audio_codec": "aac",
    }
    return _add(session, Video(identifier=identifier, **{**defaults, **values}))


def transcript(session: Session, of: Video, **values: Any) -> Transcript:
    defaults: dict[str, Any] = {
        "video_id": of.id,
        "full_text": "Hello there.",
        "word_timestamps": [{"word": "Hello", "start": 0.0, "end": 0.4}, {"word": "there.", "start": 0.5, "end": 0.9}],
        "segment_timestamps": [{"text": "Hello there.", "start": 0.0, "end": 0.9}],
    }
    return _add(session, Transcript(**{**defaults, **values}))


def prompt(session: Session, **values: Any) -> Prompt:
    number = next(_numbers)
    defaults = {"system_prompt": "Find moments.", "user_prompt": f"Number {number}.", "prompt_hash": f"{number:064x}"}
    return _add(session, Prompt(**{**defaults, **values}))


def config(session: Session, **values: Any) -> GenerationConfig:
    defaults: dict[str, Any] = {
        "model": "builtin_moments",
        "operation_type": "generation",
        "config_hash": f"{next(_numbers):064x}",
    }
    if "prompt_id" not in values:
        defaults["prompt_id"] = prompt(session).id
    return _add(session, GenerationConfig(**{**defaults, **values}))


def moment(
    session: Session, of: Video, start_time: float = 0.0, end_time: float | None = None, **values: Any
) -> Moment:
    """A model's root moment of ten seconds; `generation_model=None` makes it one by hand."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "identifier": f"{number:016x}",
        "video_id": of.id,
        "title": f"Moment {number}",
        "start_time": start_time,
        "generation_model": "builtin_moments",
        "end_time": start_time + 10 if end_time is None else end_time,
    }
    return _add(session, Moment(**{**defaults, **values}))


def refined(session: Session, parent: Moment, **values: Any) -> Moment:
    """A child a second shorter at both ends."""
    defaults: dict[str, Any] = {
        "identifier": f"{next(_numbers):016x}",
        "video_id": parent.video_id,
        "parent_id": parent.id,
        "is_refined": True,
        "title": parent.title,
        "start_time": parent.start_time + 1,
        "end_time": parent.end_time - 1,
        "generation_model": "builtin_moments",
    }
    return _add(session, Moment(**{**defaults, **values}))


def clip(session: Session, of: Moment, **values: Any) -> Clip:
    defaults: dict[str, Any] = {
        "moment_id": of.id,
        "video_id": of.video_id,
        "cloud_url": f"gs://bucket/clips/{of.identifier}.mp4",
        "start_time": of.start_time,
        "end_time": of.end_time,
        "padding_left": 0.0,
        "padding_right": 0.0,
        "format": "mp4",
    }
    return _add(session, Clip(**{**defaults, **values}))


def thumbnail(session: Session, of: Video | Clip, **values: Any) -> Thumbnail:
    owner = {"video_id": of.id} if isinstance(of, Video) else {"clip_id": of.id}
    defaults = {"cloud_url": f"gs://bucket/thumbnails/{next(_numbers)}.jpg", **owner}
    return _add(session, Thumbnail(**{**defaults, **values}))


def run(session: Session, of: Video | None = None, **values: Any) -> PipelineRun:
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "identifier": f"pipeline:{of.identifier if of else 'never-stored'}:{number}",
        "video_id": of.id if of else None,
        "pipeline_type": "full",
        "status": "completed",
        "started_at": minutes_later(number),
    }
    return _add(session, PipelineRun(**{**defaults, **values}))


def request(session: Session, video_identifier: str, **values: Any) -> PipelineRequest:
    defaults: dict[str, Any] = {"request_id": f"request-{next(_numbers)}", "pipeline_type": "full", "state": "queued"}
    return _add(session, PipelineRequest(video_identifier=video_identifier, **{**defaults, **values}))


def passage(session: Session, of: Transcript, **values: Any) -> TranscriptPassage:
    defaults: dict[str, Any] = {
        "transcript_id": of.id,
        "number": next(_numbers),
        "start_time": 0.0,
        "end_time": 1.0,
        "text": "Hello there.",
        "word_starts_ms": [0, 500],
    }
    return _add(session, TranscriptPassage(**{**defaults, **values}))


def delivery(session: Session, of: PipelineRequest, **values: Any) -> WebhookDelivery:
    identifier = f"delivery-{next(_numbers)}"
    defaults: dict[str, Any] = {
        "identifier": identifier,
        "request_id": of.request_id,
        "event": "completed",
        "payload": {},
    }
    return _add(session, WebhookDelivery(**{**defaults, **values}))


def api_key(session: Session, **values: Any) -> ApiKey:
    number = next(_numbers)
    defaults = {"identifier": f"key-{number}", "name": "Key", "key_hash": f"{number:064}", "scope": "read"}
    return _add(session, ApiKey(**{**defaults, **values}))


def _add(session: Session, row: Row) -> Row:
    session.add(row)
    session.flush()
    return row
