"""Removing a video with all that was made from it, in an order that any call can take up where another was killed.

The rows go first and leave a request that says so; it stays until everything else is gone (db/queries/deletion.py).
All of it happens under the video's lock, so that a new submission of it waits, or is refused; it stops when PostgreSQL
lost the lock with its connection.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.activity import refuse_if_active
from api.cancellation import NothingToCancel, cancel
from api.problems import PipelineActive
from api.services import Services
from db.queries import deletion, locks, requests, runs
from videomoments_dagster.errors import NotFound, ServiceUnavailable
from videomoments_dagster.identifiers import validate_identifier
from videomoments_dagster.requests.cancel import CancelFlag
from videomoments_dagster.requests.lease import CONFIRM_SECONDS, RunLease
from videomoments_dagster.requests.stream import DeleteMessage
from videomoments_dagster.storage import names
from videomoments_dagster.temp_files import TempFiles

_T = TypeVar("_T")

CANCEL_SECONDS = 20.0
"""How long a forced deletion waits for what it cancelled. A run that works ends within 5 s; one in native code that
does not look up is killed after 20 s, and its deletion is to be asked for again."""
_LOOK_SECONDS = 0.25
_SLOT_SECONDS = 30.0
_MOST_WAITING = 40
_slots = CapacityLimiter(5)  # each deletion holds two of the 15 connections for writing that Services allows


@dataclass(frozen=True, slots=True)
class Removed:
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one call removed; what an interrupted call had removed before it is not in it. `by_prefix` has the prefixes
    under which there were objects; temporary files are those of this host."""

    video_id: str
    rows: dict[str, int]
    objects: int
    bytes: int
    by_prefix: dict[str, Removed]
    temp_bytes: int
    redis_keys: int
    requests: int
    partition: str = "requested"


async def delete_video(services: Services, video: str, *, force: bool) -> Receipt:
    """Raises NotFound when there is nothing of it, PipelineActive while it is processed, VideoBusy while another call
    deletes it, StorageError, ServiceUnavailable. After any of these, or a kill, the same call goes on from there.

    `force` cancels what is queued or running first, and also deletes a video whose request nobody will end: it has no
    run, or its run is declared lost. A run that may live is never overruled.
    """
    validate_identifier(video)
    if force:
        await _end_pipeline(services, video)
    return await _in_slot(partial(_delete, services, video, force))


async def _in_slot(step: Callable[[], _T]) -> _T:
    """In a thread of its own, as it may wait for a lock; those that wait for a slot hold none, so that all other
    operations go on. Raises ServiceUnavailable when too many wait, or for too long."""
    try:
        if _slots.statistics().tasks_waiting >= _MOST_WAITING:
            raise TimeoutError
        with anyio.fail_after(_SLOT_SECONDS):
            await _slots.acquire()
    except TimeoutError:
        raise ServiceUnavailable("Too many videos are being deleted at once.", hint="Try again in a moment.") from None
    try:
        return await anyio.to_thread.run_sync(step, limiter=CapacityLimiter(1))
    finally:
        _slots.release()


async def _end_pipeline(services: Services, video: str) -> None:
    """Cancel what is queued or running, and wait up to CANCEL_SECONDS for its end; holds no thread, connection or lock
    meanwhile. A run that nobody executes any more is then declared lost, so that nobody can."""
    with suppress(NothingToCancel, NotFound):
        await _in_slot(partial(cancel, services, video))
        end = time.monotonic() + CANCEL_SECONDS
        while await run_in_threadpool(_is_active, services, video):
            if time.monotonic() > end:
                if await run_in_threadpool(_declare_lost, services, video):
                    await asyncio.sleep(CONFIRM_SECONDS)  # a process that was cut off has ended itself by then
                return
            await asyncio.sleep(_LOOK_SECONDS)


def _delete(services: Services, video: str, force: bool) -> Receipt:
    with services.database.session() as held:
        requests.lock_video(held, video)
        _refuse(held, services, video, force)
        if not (deletion.is_known(held, video) or _has_leftovers(services, video)):
            raise NotFound(f"There is no video {video!r}.", hint="`videomoments list` shows the videos there are.")
        with services.database.session() as session:
            rows = deletion.delete_rows(session, video)
            locks.confirm(held)  # a request that came in because the lock was lost is not rejected
        by_prefix = {prefix: _delete_objects(services, held, prefix) for prefix in names.prefixes(video)}
        locks.confirm(held)
        temp = TempFiles.of(services.settings).remove_video(video)
        locks.confirm(held)
        redis_keys = _delete_keys(services, video)
        # In the lock's own transaction: requests go only if nobody could have made another one since it was taken.
        # The message before the commit: killed in between, the requests are there for the next call to find.
        ended = deletion.delete_requests(held, video)
        services.stream.publish(DeleteMessage(video))
    with suppress(ServiceUnavailable):  # else they see it at the next sweep
        services.status.wake(video)  # when nothing of it is left to be seen
    return Receipt(
        video_id=video,
        rows=rows,
        objects=sum(each.objects for each in by_prefix.values()),
        bytes=sum(each.bytes for each in by_prefix.values()),
        by_prefix={prefix: each for prefix, each in by_prefix.items() if each.objects},
        temp_bytes=temp.size_bytes,
        redis_keys=redis_keys,
        requests=ended,
    )


def _refuse(session: Session, services: Services, video: str, force: bool) -> None:
    try:
        refuse_if_active(session, services, video)
    except PipelineActive as active:
        if not force:
            hint = "Cancel it first, or delete it with force: that cancels it."
        elif _is_given_up(session, services, video):
            return
        else:
            hint = "It is being cancelled and has not ended yet: delete it again in a moment."
        raise PipelineActive(video, active.request_id, hint=hint) from None
    newest = requests.newest(session, video)
    if newest and newest.run_id and RunLease(services.redis, newest.run_id).holder():
        raise PipelineActive(video, newest.request_id, hint="Its run is just ending: delete it again in a moment.")
    if run := runs.running(session, video):
        hint = "`videomoments cancel` ends it; if it is gone, `videomoments sweep --fix` records that it ended."
        raise PipelineActive(video, run, hint=hint)


def _is_given_up(session: Session, services: Services, video: str) -> bool:
    """Whether the active request has no run, or one that is declared lost. Of a run that was started in the Dagster UI
    nobody can tell from here: its retries have other ids."""
    request = requests.active(session, video)
    if request is None:
        return False
    return request.run_id is None or RunLease(services.redis, request.run_id).verdict() is not None


def _is_active(services: Services, video: str) -> bool:
    try:
        with services.database.session() as session:
            refuse_if_active(session, services, video)
    except PipelineActive:
        return True
    return False


def _declare_lost(services: Services, video: str) -> bool:
    with services.database.read() as session:
        request = requests.active(session, video)
    if request is None or request.run_id is None:
        return False
    return RunLease(services.redis, request.run_id).declare_lost("its video is being deleted")


def _has_leftovers(services: Services, video: str) -> bool:
    """What stays behind where rows were removed by hand, or were lost."""
    stored = any(next(services.store.list(prefix), None) for prefix in names.prefixes(video))
    return stored or services.status.read(video) is not None


def _delete_objects(services: Services, held: Session, prefix: str) -> Removed:
    objects = removed_bytes = 0
    for stored in services.store.list(prefix):
        locks.confirm(held)
        if services.store.delete(stored.name):
            objects, removed_bytes = objects + 1, removed_bytes + stored.size_bytes
    return Removed(objects, removed_bytes)


def _delete_keys(services: Services, video: str) -> int:
    owner = services.lock.owner(video)
    lock = services.lock.release(video, owner) if owner else False
    return services.status.forget(video) + CancelFlag(services.redis).forget(video) + lock
