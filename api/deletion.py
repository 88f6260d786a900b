"""Removing a video: objects, temp files, partition, live state and, last, the rows.

All of it happens under the video's lock, and the rows are committed last: whatever kills it half-way, the rows are
still there to find the video by, and the same call again finishes.
"""

import shutil
from contextlib import suppress

from sqlalchemy.orm import Session

from api.activity import refuse_if_active
from api.problems import PipelineActive
from api.services import Services
from db.queries import requests, videos
from videomoments_dagster.errors import NotFound
from videomoments_dagster.identifiers import validate_identifier
from videomoments_dagster.requests.stream import DeleteMessage
from videomoments_dagster.storage import names


def delete_video(services: Services, video: str, *, force: bool) -> None:
    """Raises NotFound when there is nothing of it, PipelineActive while it is processed.

    `force` gives up requests that no run works on, for instance after a crash; a run that works is never overruled.
    """
    validate_identifier(video)
    with services.database.session() as session:
        requests.lock_video(session, video)
        _refuse(session, services, video, force)
        leftovers = _delete_objects(services, video) + _delete_temp(services, video)
        live = services.status.read(video)
        rows = videos.delete(session, video)
        if not (leftovers or live or rows):
            raise NotFound(f"There is no video {video!r}.", hint="`videomoments list` shows the videos there are.")
        services.status.forget(video)
        if owner := services.lock.owner(video):
            services.lock.release(video, owner)
        services.stream.publish(DeleteMessage(video))


def _refuse(session: Session, services: Services, video: str, force: bool) -> None:
    owner = services.lock.owner(video)
    if force and owner is None:
        return
    try:
        refuse_if_active(session, services, video)
    except PipelineActive as active:
        if not force:
            raise
        raise PipelineActive(
            video,
            active.request_id,
            hint="A run holds this video. Wait for its end, or terminate it in the Dagster UI, and delete again.",
        ) from None


def _delete_objects(services: Services, video: str) -> int:
    deleted = 0
    for prefix in names.prefixes(video):
        for stored in services.store.list(prefix):
            deleted += services.store.delete(stored.name)
    return deleted


def _delete_temp(services: Services, video: str) -> int:
    found = list(services.settings.temp_directory.glob(f"*/{video}"))
    for directory in found:
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)
    return len(found)
