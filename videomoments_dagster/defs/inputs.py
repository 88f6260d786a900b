"""What an asset reads before it works: its video, its configuration. All of it derivable from the partition key."""

from typing import Any

import dagster as dg
from pydantic import Field
from sqlalchemy.orm import Session

from db.models import Transcript, Video
from db.queries import requests as request_queries
from db.queries import transcripts as transcript_queries
from db.queries import videos as video_queries
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import InvalidConfig, NotFound, StageInputMissing
from videomoments_dagster.moments.moment import FindOptions
from videomoments_dagster.moments.transcript import to_ms
from videomoments_dagster.requests.config import PipelineConfig


class Overrides(dg.Config):
    """Run config of an asset: never needed, it only overrides what the request said."""

    overrides: dict[str, Any] = Field(
        {}, description="Keys of a request's config, e.g. {max_moments: 5, padding_left: 2.0}; they win for this run."
    )


def request_config(session: Session, video: str, run_config: Overrides | None = None) -> PipelineConfig:
    """The configuration of the newest request for the whole video (the defaults when there is none), with the run's
    overrides on top. Raises InvalidConfig. What is asked for one moment alone comes with its run's overrides."""
    request = request_queries.newest_for_all_moments(session, video)
    stored = request.config if request else {}
    return PipelineConfig.parse({**stored, **(run_config.overrides if run_config else {})})


def cuts_clips(platform: PlatformResource, config: PipelineConfig) -> bool:
    """Whether a run with this configuration cuts clips. A key that names no model fails later, in its own stage."""
    if config.cut_clips is not None:
        return config.cut_clips
    try:
        return platform.models.wants_clips(config.refinement_model)
    except (NotFound, InvalidConfig):
        return True


def find_options(config: PipelineConfig) -> FindOptions:
    return FindOptions(
        min_length_ms=to_ms(config.min_moment_length),
        max_length_ms=to_ms(config.max_moment_length),
        min_moments=config.min_moments,
        max_moments=config.max_moments,
        focus=config.focus,
    )


def require_video(session: Session, video: str) -> Video:
    row = video_queries.get(session, video)
    if row is None:
        raise StageInputMissing(f"Video {video!r} is not stored yet.", hint="Materialize its `video` asset first.")
    return row


def require_transcript(session: Session, video: Video) -> Transcript:
    row = transcript_queries.get(session, video.id)
    if row is None:
        raise StageInputMissing(
            f"Video {video.identifier!r} has no transcript yet.", hint="Materialize its `transcript` asset first."
        )
    return row
