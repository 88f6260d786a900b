"""What an asset reads before it works: its video, its configuration. All of it derivable from the partition key."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os import getpid, kill
from pathlib import Path
from shutil import rmtree
from socket import gethostname
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
from videomoments_dagster.errors import NO_SPACE, DiskFull, InvalidConfig, NotFound, StageInputMissing
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


@contextmanager
def temp_directory(platform: PlatformResource, purpose: str, video: str) -> Iterator[Path]:
    """`temp/{purpose}/{video}/<host>-<pid>-<random>/`, removed afterwards, with what killed processes left beside it.
    Raises DiskFull."""
    parent = platform.settings.temp_directory / purpose / video
    try:
        directory = _make_in(parent)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFull(f"No space for temporary files in {parent}.") from error
    sweep_leftovers(parent.iterdir())
    try:
        yield directory
    finally:
        rmtree(directory, ignore_errors=True)
        with suppress(OSError):  # not empty: somebody else works there
            parent.rmdir()
            parent.parent.rmdir()


def sweep_leftovers(directories: Iterable[Path]) -> None:
    """Remove those of `directories` that a process of this machine made which is not there any more."""
    for directory in directories:
        host, _, pid = directory.name.rpartition("-")[0].rpartition("-")
        if host == gethostname() and pid.isdecimal() and not _is_there(int(pid)):
            rmtree(directory, ignore_errors=True)


def _make_in(parent: Path) -> Path:
    while True:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            return Path(mkdtemp(dir=parent, prefix=f"{gethostname()}-{getpid()}-"))
        except FileNotFoundError:  # whoever worked there last removed the parent in between
            continue
        except FileExistsError:  # or removed it between mkdir's failure and its look at what is there
            if parent.is_file() or parent.parent.is_file():
                raise


def _is_there(pid: int) -> bool:
    try:
        kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
