"""Cancelling what a video's pipeline does: the wish goes into the request's row, then the flag that the run hears."""

from contextlib import suppress

from api.activity import status_of
from api.services import Services
from db.queries import requests, runs
from videomoments_dagster.errors import Conflict, ServiceUnavailable
from videomoments_dagster.requests.cancel import CancelFlag
from videomoments_dagster.requests.lease import RunLease


class NothingToCancel(Conflict):
    code, title = "nothing_to_cancel", "Nothing is queued or running"
    hint = "A run that was started in the Dagster UI and waits in its queue is not known here: terminate it there."


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
    return _cancel_run(services, flag, video)


def _cancel_run(services: Services, flag: CancelFlag, video: str) -> str:
    """What runs without an active request was started, or executed again, in the Dagster UI. The flag means the owner
    of its lock, which may be a request that is over; the order to the run itself is for a lock that Redis lost."""
    owner = services.lock.owner(video)  # before its history: a run writes that first
    with services.database.read() as session:
        newest = next(iter(runs.page(session, video, limit=1).items), None)
        running = newest is not None and newest.status == "running"
        if owner and not running and requests.get(session, owner):
            owner = None  # a leftover of a request that has ended
    live = services.status.read(video) if running else None
    run_id = live.run_id if live and live.status == "running" else None
    if run_id:
        RunLease(services.redis, run_id).order_cancel()
    if owner:
        flag.order(video, owner)
    if ordered := owner or run_id:
        return ordered
    if running:
        raise NothingToCancel(
            f"Video {video!r} has a run that can't be told: Redis does not know it any more.",
            hint="Terminate it in the Dagster UI; if it is gone, `videomoments sweep --fix` records that it ended.",
        )
    raise NothingToCancel(
        f"Video {video!r} has nothing to cancel: its pipeline is {status_of(services, video).status}."
    )
