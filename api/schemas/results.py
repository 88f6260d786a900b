"""What the pipeline made of a video: transcript, moments, clips. Times are seconds of the source video."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from api.schemas.base import Output
from api.services import Services
from db.models import Transcript as TranscriptRow
from db.queries.clips import ClipView
from db.queries.moments import MomentView

_SIGNED = "https://storage.googleapis.com/bucket/clips/motivation/9f86d081884c7d65.mp4?X-Goog-Signature=…"


class Word(Output):
    word: str
    start: float
    end: float


class Segment(Output):
    text: str
    start: float
    end: float


class Transcript(Output):
    """What is said, word by word and sentence by sentence."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "video_id": "motivation",
                "text": "Hello there.",
                "language": "en",
                "word_timestamps": [
                    {"word": "Hello", "start": 0.0, "end": 0.4},
                    {"word": "there.", "start": 0.5, "end": 0.9},
                ],
                "segment_timestamps": [{"text": "Hello there.", "start": 0.0, "end": 0.9}],
                "number_of_words": 2,
                "number_of_segments": 1,
                "transcription_service": "builtin_speech",
                "processing_time_seconds": 0.7,
                "created_at": "2026-01-01T12:00:00Z",
            }
        }
    )

    video_id: str
    text: str
    language: str | None
    word_timestamps: list[Word]
    segment_timestamps: list[Segment]
    number_of_words: int | None
    number_of_segments: int | None
    transcription_service: str | None
    processing_time_seconds: float | None
    created_at: datetime


class Moment(Output):
    """A titled stretch of a video. `clip_url` and `thumbnail_url` are signed, and are its parent's when it is refined;
    they are null while the clip does not show all of it, as it was moved by hand since. `parent_id` is the identifier
    of the moment that it refines; `model_name` is null for one that was made by hand."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "9f86d081884c7d65",
                "title": "Why small steps work",
                "start_time": 61.2,
                "end_time": 98.7,
                "is_refined": False,
                "parent_id": None,
                "model_name": "builtin_moments",
                "score": 8,
                "clip_url": _SIGNED,
                "thumbnail_url": None,
                "generation_config_id": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                "created_at": "2026-01-01T12:00:00Z",
                "updated_at": "2026-01-01T12:00:00Z",
            }
        }
    )

    id: str
    title: str
    start_time: float
    end_time: float
    is_refined: bool
    parent_id: str | None
    model_name: str | None
    score: int | None
    clip_url: str | None
    thumbnail_url: str | None
    generation_config_id: str | None
    created_at: datetime
    updated_at: datetime


class Clip(Output):
    """The file of a moment. `start_time` is the moment's less `padding_left`, as the file really holds it. `url` is
    null while it does not show the moment, which was moved by hand since."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "moment_id": "9f86d081884c7d65",
                "title": "Why small steps work",
                "url": _SIGNED,
                "thumbnail_url": None,
                "start_time": 56.0,
                "end_time": 103.7,
                "padding_left": 5.2,
                "padding_right": 5.0,
                "file_size_kb": 3120,
                "format": "mp4",
                "video_codec": "h264",
                "audio_codec": "aac",
                "resolution": "1920x1080",
                "cloud_url": "gs://bucket/clips/motivation/9f86d081884c7d65.mp4",
                "created_at": "2026-01-01T12:00:00Z",
            }
        }
    )

    moment_id: str
    title: str
    url: str | None
    thumbnail_url: str | None
    start_time: float
    end_time: float
    padding_left: float | None
    padding_right: float | None
    file_size_kb: int | None
    format: str | None
    video_codec: str | None
    audio_codec: str | None
    resolution: str | None
    cloud_url: str
    created_at: datetime


def transcript(row: TranscriptRow, video: str) -> Transcript:
    fields: dict[str, Any] = {
        "word_timestamps": [Word.model_construct(**word) for word in row.word_timestamps],
        "segment_timestamps": [Segment.model_construct(**segment) for segment in row.segment_timestamps],
    }
    return Transcript.model_construct(
        **fields,
        video_id=video,
        text=row.full_text,
        language=row.language,
        number_of_words=row.number_of_words,
        number_of_segments=row.number_of_segments,
        transcription_service=row.transcription_service,
        processing_time_seconds=row.processing_time_seconds,
        created_at=row.created_at,
    )


_MOMENTS = TypeAdapter(list[Moment])


def moment(view: MomentView, services: Services) -> Moment:
    return Moment.model_validate(_moment(view, services))


def _moment(view: MomentView, services: Services) -> dict[str, Any]:
    clip = view.playable
    return {
        "id": view.identifier,
        "title": view.title,
        "start_time": view.start_time,
        "end_time": view.end_time,
        "is_refined": view.is_refined,
        "parent_id": view.parent_identifier,
        "model_name": view.generation_model,
        "score": view.score,
        "clip_url": services.urls.of_ours(clip.cloud_url) if clip else None,
        "thumbnail_url": services.urls.of_ours(clip.thumbnail_cloud_url) if clip else None,
        "generation_config_id": view.generation_config_hash,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
    }


def moments(views: Sequence[MomentView], services: Services) -> list[Moment]:
    return _MOMENTS.validate_python([_moment(view, services) for view in views])


def clip(view: ClipView, services: Services) -> Clip:
    return Clip.model_construct(
        moment_id=view.moment_identifier,
        title=view.title,
        url=services.urls.of_ours(view.cloud_url) if view.is_current else None,
        thumbnail_url=services.urls.of_ours(view.thumbnail_cloud_url) if view.is_current else None,
        start_time=view.start_time,
        end_time=view.end_time,
        padding_left=view.padding_left,
        padding_right=view.padding_right,
        file_size_kb=view.file_size_kb,
        format=view.format,
        video_codec=view.video_codec,
        audio_codec=view.audio_codec,
        resolution=view.resolution,
        cloud_url=view.cloud_url,
        created_at=view.created_at,
    )
