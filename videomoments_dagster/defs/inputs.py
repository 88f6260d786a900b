"""What an asset reads before it works: its video, its configuration. All of it derivable from the partition key."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import dagster as dg
from pydantic import Field
from sqlalchemy.orm import Session

from db.models import Transcript, Video
from db.queries import requests as request_queries
from db.queries import transcripts as transcript_queries
from db.queries import videos as video_queries
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import DiskFull, StageInputMissing
from videomoments_dagster.requests.config import PipelineConfig


class Overrides(dg.Config):
    """Run config of an asset: never needed, it only overrides what the request said."""

    overrides: dict[str, Any] = Field(
        {}, description="Keys of a request's config, e.g. {max_moments: 5, padding_left: 2.0}; they win for this run."
    )


def request_config(session: Session, video: str, run_config: Overrides | None = None) -> PipelineConfig:
    """The configuration of the newest request for the video (the defaults when there is none), with the run's
    overrides on top. Raises InvalidConfig."""
    request = request_queries.newest(session, video)
    return PipelineConfig.parse({**(request.config if request else {}), **(run_config.overrides if run_config else {})})


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


@contextmanager
def temp_directory(platform: PlatformResource, purpose: str, video: str) -> Iterator[Path]:
    """`temp/{purpose}/{video}/<random>/`, removed afterwards. Raises DiskFull."""
    parent = platform.settings.temp_directory / purpose / video
    try:
        parent.mkdir(parents=True, exist_ok=True)
        directory = Path(mkdtemp(dir=parent))
    except OSError as error:
        if error.errno not in {28, 122}:
            raise
        raise DiskFull(f"No space for temporary files in {parent}.") from error
    try:
        yield directory
    finally:
        rmtree(directory, ignore_errors=True)
        for empty in (parent, parent.parent):
            if empty.is_dir() and not any(empty.iterdir()):
                rmtree(empty, ignore_errors=True)
