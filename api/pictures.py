"""Pictures of videos and clips, made when somebody asks for one that the pipeline has not made (yet, or any more).

FFmpeg works in its child process, for a few of them at a time; whoever asks for the same one meanwhile waits for it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock

import anyio.to_thread
from anyio import CapacityLimiter
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.clips import playable_clip
from api.services import Services
from db.queries import clips, thumbnails, videos
from videomoments_dagster.errors import (
    MediaError,
    MediaKilled,
    NotFound,
    ServiceUnavailable,
    StorageError,
    StorageUnavailable,
)
from videomoments_dagster.media.thumbnail import ThumbnailFailure, ThumbnailRequest, at_seconds_of, make_thumbnails
from videomoments_dagster.storage import names
from videomoments_dagster.storage.base import StoredObject
from videomoments_dagster.temp_files import TempFiles

TIMEOUT_SECONDS = 60.0
"""Longest work on one picture: who waits for it is a browser. A sound file takes a fraction of a second."""
LARGEST_COPY_BYTES = 2 * 1024**3
"""A larger file is not copied from a bucket for the sake of one picture: the pipeline makes that as it goes along."""
_BARREN_SECONDS = 600.0
_MOST_BARREN = 1000
_MOST_WAITING = 100
_slots = CapacityLimiter(2)
_being_made: dict[str, "asyncio.Task[str]"] = {}
_barren: OrderedDict[tuple[str, int], tuple[float, NotFound]] = OrderedDict()
"""Media that gave no picture, by URL and generation: until when they are not read again, and what was said. The oldest
come first."""
_barren_lock = Lock()

_Keep = Callable[[Session, str, int], object]
"""Writes the picture's row: its cloud_url and its size in kB."""


async def of_video(services: Services, video: str) -> str:
    """A signed URL of the video's picture. Raises NotFound when none can be made, ServiceUnavailable."""
    stored = await run_in_threadpool(_stored_of_video, services, video)
    picture = stored or await _once(f"video {video}", partial(_make_of_video, services, video))
    return await run_in_threadpool(services.sign, picture)


async def of_clip(services: Services, moment: str) -> str:
    """A signed URL of the picture of the clip that the moment plays from. Raises as `playable_clip` does, NotFound when
    none can be made, ServiceUnavailable."""
    clip = await run_in_threadpool(playable_clip, services, moment)
    picture = clip.thumbnail_cloud_url or await _once(f"clip {clip.id}", partial(_make_of_clip, services, moment))
    return await run_in_threadpool(services.sign, picture)


async def _once(key: str, make: Callable[[], str]) -> str:
    """What `make` returns, run in a thread that is not one of those that answer other requests."""
    task = _being_made.get(key)
    if task is None:
        if len(_being_made) >= _MOST_WAITING:
            raise ServiceUnavailable("Too many pictures are being made.", hint="Try again in a moment.")
        task = asyncio.create_task(anyio.to_thread.run_sync(make, limiter=_slots))
        _being_made[key] = task
        task.add_done_callback(partial(_forget, key))
    return await asyncio.shield(task)  # the others wait on when one of them goes away


def _forget(key: str, task: "asyncio.Task[str]") -> None:
    _being_made.pop(key, None)
    if not task.cancelled():
        task.exception()  # whoever wanted to hear of it has gone away


def _stored_of_video(services: Services, video: str) -> str | None:
    """Raises NotFound when there is no video, or no picture in it that one could be made of."""
    with services.database.read() as session:
        view = videos.overview(video).run(session).summary
    if view.thumbnail_cloud_url is None and view.video_codec is None:
        raise NotFound(f"Video {video!r} has no picture.", hint="Its file is of sound alone; show a picture of yours.")
    return view.thumbnail_cloud_url


def _make_of_video(services: Services, video: str) -> str:
    """Looks again: it may have been made while this waited for its turn."""
    if stored := _stored_of_video(services, video):
        return stored
    with services.database.read() as session:
        row = videos.require(session, video)

    def keep(session: Session, cloud_url: str, file_size_kb: int) -> None:
        thumbnails.set_video_thumbnail(session, row.id, cloud_url=cloud_url, file_size_kb=file_size_kb)

    return _make(
        services, video, row.cloud_url, at_seconds_of(row.duration_seconds), names.video_thumbnail(video), keep
    )


def _make_of_clip(services: Services, moment: str) -> str:
    """From the clip, which is a small file that begins at its start."""
    clip = playable_clip(services, moment)
    if clip.thumbnail_cloud_url:
        return clip.thumbnail_cloud_url
    with services.database.read() as session:
        video = clips.video_of(session, clip.id).identifier

    def keep(session: Session, cloud_url: str, file_size_kb: int) -> None:
        thumbnails.set_clip_thumbnail(session, clip.id, cloud_url=cloud_url, file_size_kb=file_size_kb)

    middle_seconds = (clip.end_time - clip.start_time) / 2
    return _make(
        services, video, clip.cloud_url, middle_seconds, names.clip_thumbnail(video, clip.moment_identifier), keep
    )


def _make(services: Services, video: str, source: str, at_seconds: float, name: str, keep: _Keep) -> str:
    """Object first, verified, then the row, as the pipeline does it; returns its cloud_url."""
    store = services.store
    media: StoredObject | None = None
    try:
        media = store.require(store.name_of(source))
        _refuse_in_vain(video, source, media)
        with (
            TempFiles.of(services.settings).directory("thumbnails", video) as directory,
            store.local_copy(media.name, directory) as path,
        ):
            picture = _still(path, at_seconds, directory / "picture.jpg")
            stored = store.put_file(name, picture, "image/jpeg")
    except (MediaKilled, StorageUnavailable):
        raise
    except (MediaError, StorageError) as error:
        refusal = NotFound(
            f"Video {video!r} has no picture yet, and none can be made here: {error.message}", hint=error.hint
        )
        if media and isinstance(error, MediaError):
            _remember(source, media, refusal)
        raise refusal from error
    try:
        with services.database.session() as session:
            keep(session, store.cloud_url(name), stored.size_kb)
    except NotFound:
        store.delete(name)
        raise
    return store.cloud_url(name)


def _refuse_in_vain(video: str, source: str, media: StoredObject) -> None:
    """Raises NotFound before much is read for nothing: of what gave no picture a while ago, or is too large to copy."""
    with _barren_lock:
        until, refusal = _barren.get((source, media.generation), (0.0, None))
    if refusal and time.monotonic() < until:
        raise NotFound(refusal.message, hint=refusal.hint)
    if media.size_bytes > LARGEST_COPY_BYTES and not source.startswith("file:"):  # a directory's file is read in place
        raise NotFound(
            f"Video {video!r} has no picture yet, and is too large to make one of it here.",
            hint="The pipeline makes it: see the video's status, or POST to its `extract-clips`.",
        )


def _remember(source: str, media: StoredObject, refusal: NotFound) -> None:
    with _barren_lock:
        _barren[source, media.generation] = (time.monotonic() + _BARREN_SECONDS, refusal)
        _barren.move_to_end((source, media.generation))
        while len(_barren) > _MOST_BARREN:
            _barren.popitem(last=False)


def _still(source: Path, at_seconds: float, destination: Path) -> Path:
    wanted = ThumbnailRequest("picture", at_seconds, destination)
    (made,) = make_thumbnails(source, [wanted], timeout_seconds=TIMEOUT_SECONDS)
    if isinstance(made, ThumbnailFailure):
        raise made.error
    return made.destination
