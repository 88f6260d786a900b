"""Cancelling what a video's pipeline does: the wish goes into the request's row, then the flag that the run hears."""

from contextlib import suppress

from api.activity import status_of
from api.services import Services
from db.queries import requests
from videomoments_dagster.errors import Conflict, ServiceUnavailable
from videomoments_dagster.requests.cancel import CancelFlag


class NothingToCancel(Conflict):
    code, title = "nothing_to_cancel", "Nothing is queued or running"


def cancel(services: Services, video: str) -> str:
    """Have the video's active request cancelled, or its run that was started in the Dagster UI; returns whose id was
    ordered to stop. Saying it again changes nothing. Raises NotFound, NothingToCancel, ServiceUnavailable."""
    with services.database.session() as session:
        requests.lock_video(session, video)
        active = requests.active(session, video)
        if active and active.cancel_requested_at is None:
            requests.cancel(session, active.request_id)
    flag = CancelFlag(services.redis)
    if active:
        with suppress(ServiceUnavailable):  # the row says it too; it only takes longer
            flag.order(video, active.request_id)
        return active.request_id
    owner = services.lock.owner(video)
    if owner is None or _is_over(services, owner):
        state = status_of(services, video).status
        raise NothingToCancel(f"Video {video!r} has nothing to cancel: its pipeline is {state}.")
    flag.order(video, owner)
    return owner


def _is_over(services: Services, owner: str) -> bool:
    """Whether the lock is a leftover of a request that has ended. A run's own id is no request's."""
    with services.database.read() as session:
        return requests.get(session, owner) is not None
