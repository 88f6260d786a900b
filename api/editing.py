"""Moments by hand: adding, changing and deleting them. A person's moments survive re-generation; a model's moment that
a person deleted may come back with it.
"""

import logging
import math
import secrets
from collections.abc import Iterable
from typing import Any

from api.conditional import require_match, version_tag
from api.services import Services
from db.models import Video
from db.queries import editing, videos
from db.queries.moments import MomentView
from videomoments_dagster.errors import InvalidInput, VideoMomentsError

_log = logging.getLogger("videomoments.api")


def tag_of(moment: MomentView) -> str:
    """The ETag of the moment as it is now."""
    return version_tag(moment.identifier, moment.updated_at)


def add(services: Services, video: str, *, title: str, start_time: float, end_time: float) -> tuple[MomentView, bool]:
    """A moment by hand, and whether it is new: the same again is the one that is there. Raises NotFound, InvalidInput,
    and Conflict when the video has too many."""
    identifier = secrets.token_hex(8)  # not of its times: those change, and two may share them
    with services.database.session() as session:
        row = videos.require(session, video)
        _require_inside(row, start_time, end_time)
        added = editing.add(session, row, identifier=identifier, title=title, start_time=start_time, end_time=end_time)
    return added, added.identifier == identifier


def change(services: Services, video: str, moment: str, given: dict[str, Any], if_match: str | None) -> MomentView:
    """`given`: title, start_time, end_time, what of them is to change. Raises NotFound, InvalidInput, and
    PreconditionFailed when it is not the version of `if_match`: of two changes of one version, one wins."""
    with services.database.session() as session:
        row = videos.require(session, video)

        def check(before: MomentView) -> None:
            require_match(if_match, tag_of(before))
            _require_inside(row, given.get("start_time", before.start_time), given.get("end_time", before.end_time))

        changed, removed = editing.change(session, row, moment, check, **given)
    _delete_objects(services, removed)
    return changed


def remove(services: Services, video: str, moment: str, if_match: str | None) -> None:
    """With its clip, its picture, their objects and its refinements. Raises NotFound, PreconditionFailed."""
    with services.database.session() as session:
        row = videos.require(session, video)
        removed = editing.remove(session, row, moment, lambda before: require_match(if_match, tag_of(before)))
    _delete_objects(services, removed)


def _require_inside(video: Video, start_time: float, end_time: float) -> None:
    if not start_time < end_time:
        raise InvalidInput(
            f"The moment ends at {end_time} s, and starts at {start_time} s.", hint="Give an end after the start."
        )
    duration = video.duration_seconds
    if duration is not None and end_time > math.ceil(duration * 1000) / 1000:
        raise InvalidInput(
            f"The moment ends at {end_time} s, and video {video.identifier!r} lasts {duration} s.",
            hint="Choose times inside the video.",
        )


def _delete_objects(services: Services, cloud_urls: Iterable[str]) -> None:
    """The rows are gone, so the change is done: what can't be deleted now is found by the sweep."""
    for cloud_url in cloud_urls:
        try:
            services.store.delete(services.store.name_of(cloud_url))
        except VideoMomentsError as error:
            _log.warning("An object without a row was left: %s", error.message)
