"""Videos as the frontend knows them, and what is said when one is submitted."""

from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import ConfigDict, Field

from api.schemas.base import Output
from api.schemas.webhooks import WebhookInput
from api.services import Services
from api.submission import Submission
from db.queries.paging import Page
from db.queries.videos import VideoOverview, VideoSummary
from videomoments_dagster.requests.config import PipelineConfig

_EXAMPLE: dict[str, Any] = {
    "id": "motivation",
    "filename": "motivation.mp4",
    "title": "What keeps us going",
    "thumbnail_url": "https://storage.googleapis.com/bucket/thumbnails/motivation/motivation.jpg?X-Goog-Signature=…",
    "has_audio": True,
    "has_transcript": True,
    "has_moments": True,
    "duration_seconds": 612.4,
    "file_size_kb": 48213,
    "video_codec": "h264",
    "audio_codec": "aac",
    "resolution": "1920x1080",
    "frame_rate": 25.0,
    "cloud_url": "gs://bucket/videos/motivation/motivation.mp4",
    "source_url": "https://example.org/motivation.mp4",
    "created_at": "2026-01-01T12:00:00Z",
}


class Video(Output):
    """One stored video. `thumbnail_url` is signed; `cloud_url` is where the store keeps the file."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: str
    filename: str
    title: str | None
    thumbnail_url: str | None
    has_audio: bool
    has_transcript: bool
    has_moments: bool
    duration_seconds: float | None
    file_size_kb: int | None
    video_codec: str | None
    audio_codec: str | None
    resolution: str | None
    frame_rate: float | None
    cloud_url: str
    source_url: str | None
    created_at: datetime


class VideoDetails(Video):
    """A video and how much there is of what."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": _EXAMPLE | {"number_of_moments": 7, "number_of_refined_moments": 7, "number_of_clips": 7}
        }
    )

    number_of_moments: int
    number_of_refined_moments: int
    number_of_clips: int


class VideoPage(Output):
    """`next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_EXAMPLE], "next_cursor": None}})

    items: list[Video]
    next_cursor: str | None


class SubmitVideo(WebhookInput):
    """A video to process. Without an identifier, one is made of the URL's file name."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"url": "https://example.org/motivation.mp4", "config": {"max_moments": 8}}}
    )

    url: str = Field(min_length=1, max_length=4096, description="http(s) address of the media file itself")
    identifier: str | None = Field(None, description="1 to 100 letters, digits, '-' and '_'")
    title: str | None = Field(None, min_length=1, max_length=500, description="Shown instead of the file name")
    config: PipelineConfig = PipelineConfig.model_validate({})


class Submitted(Output):
    """`request_id` is null when nothing was started because the video is there."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "video_id": "motivation",
                "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
                "status_url": "/api/pipeline/motivation/status",
                "already_processed": False,
            }
        }
    )

    video_id: str
    request_id: str | None
    status_url: str
    already_processed: bool


class RemovedObjects(Output):
    objects: int
    bytes: int


class DeletionReceipt(Output):
    """What this call removed; what an interrupted one removed before is not in it. `rows` counts by table, `by_prefix`
    has the prefixes under which there were objects, temporary files are those of the API's host. The partition goes
    when Dagster's daemon reads the message."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "video_id": "motivation",
                "rows": {
                    "thumbnails": 13,
                    "clips": 12,
                    "moments": 24,
                    "transcripts": 1,
                    "pipeline_history": 2,
                    "videos": 1,
                },
                "objects": 2,
                "bytes": 73411220,
                "by_prefix": {
                    "videos/motivation/": {"objects": 1, "bytes": 52428800},
                    "audio/motivation/": {"objects": 1, "bytes": 20982420},
                },
                "temp_bytes": 0,
                "redis_keys": 3,
                "requests": 2,
                "partition": "requested",
            }
        }
    )

    video_id: str
    rows: dict[str, int]
    objects: int
    bytes: int
    by_prefix: dict[str, RemovedObjects]
    temp_bytes: int
    redis_keys: int
    requests: int
    partition: Literal["requested"]


def submitted(made: Submission) -> Submitted:
    return Submitted.model_construct(
        video_id=made.video_id,
        request_id=made.request_id,
        status_url=f"/api/pipeline/{made.video_id}/status",
        already_processed=made.already_processed,
    )


def video_page(page: Page[VideoSummary], services: Services) -> VideoPage:
    """Validated: pydantic does that in less time than `model_construct` takes."""
    items = [_fields(view, services) for view in page.items]
    return VideoPage.model_validate({"items": items, "next_cursor": page.next_cursor})


def video_details(view: VideoOverview, services: Services) -> VideoDetails:
    return VideoDetails.model_validate(
        {
            **_fields(view.summary, services),
            "number_of_moments": view.number_of_moments,
            "number_of_refined_moments": view.number_of_refined_moments,
            "number_of_clips": view.number_of_clips,
        }
    )


def _fields(view: VideoSummary, services: Services) -> dict[str, Any]:
    return {
        "id": view.identifier,
        "filename": unquote(view.cloud_url.rpartition("/")[2]),
        "title": view.title,
        "thumbnail_url": services.urls.of_ours(view.thumbnail_cloud_url),
        "has_audio": view.audio_codec is not None,
        "has_transcript": view.has_transcript,
        "has_moments": view.has_moments,
        "duration_seconds": view.duration_seconds,
        "file_size_kb": view.file_size_kb,
        "video_codec": view.video_codec,
        "audio_codec": view.audio_codec,
        "resolution": view.resolution,
        "frame_rate": view.frame_rate,
        "cloud_url": view.cloud_url,
        "source_url": view.source_url,
        "created_at": view.created_at,
    }
