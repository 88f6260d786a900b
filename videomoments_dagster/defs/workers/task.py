"""What a worker process does with a message: claim the run, execute it under its lease, and be whole afterwards.

The execution itself is dagster_celery's own task; this is the base class it is made with.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from secrets import token_hex
from socket import gethostname
from typing import TYPE_CHECKING, Any

import celery
import dagster as dg
from celery.utils.log import get_task_logger
from dagster._utils.interrupts import capture_interrupts

from videomoments_dagster import logs
from videomoments_dagster.defs.observing import about
from videomoments_dagster.defs.policies import PARTITION_TAG, lock_owner
from videomoments_dagster.defs.workers.keeping import Keeper
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.lease import RENEW_SECONDS, LeaseLost, RunLease
from videomoments_dagster.settings import get_settings

if TYPE_CHECKING:
    import redis

_CLAIM_SECONDS = 60.0
_log = get_task_logger(__name__)


class LeasedTask(celery.Task):
    """Base of the tasks that execute runs. The task's id is the run's."""

    abstract = True
    typing = False

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        run_id = str(self.request.id)
        lease, holder = RunLease(lease_client(get_settings().redis_url), run_id), _holder()
        if not _claim(lease, holder):
            _log.info("Run %s is executed elsewhere: this message is dropped.", run_id)
            return
        try:
            with dg.DagsterInstance.get() as instance:
                lease = _with_flag(lease, instance, run_id)
                with _interruptible(), Keeper(lease, holder, instance, run_id).keep():
                    if run := _startable(instance, run_id):
                        with logs.bound(**about(run)):
                            super().__call__(*args, **kwargs)
                _end_cancelled(instance, run_id)
        except (LeaseLost, ServiceUnavailable) as error:
            _log.warning("Run %s is left to others: %s", run_id, error)
        finally:
            with suppress(ServiceUnavailable):
                lease.release(holder)


def holders_of(worker_pid: int) -> str:
    """How the names of all processes begin that the worker of this host with `worker_pid` ever forked."""
    return f"{gethostname()}:{worker_pid}:"


def _holder() -> str:
    """This process, unique among all that ever ran anywhere."""
    return f"{holders_of(os.getppid())}{os.getpid()}:{token_hex(4)}"


@cache
def lease_client(url: str) -> "redis.Redis":
    """Short timeouts: a renewal that hangs is one that failed, well before FENCE_SECONDS."""
    return connect(url, timeout_seconds=2)


def _claim(lease: RunLease, holder: str) -> bool:
    """Take the run, waiting for a Redis that is away. Given up after a while: a launch without a worker is published
    again."""
    end = time.monotonic() + _CLAIM_SECONDS
    while True:
        try:
            return lease.claim(holder)
        except ServiceUnavailable:
            if time.monotonic() > end:
                return False
            threading.Event().wait(RENEW_SECONDS)


def _startable(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun | None:
    """The run, if it still waits to be executed. To be asked under the lease: then no other gets it.

    A retry waits until the process of the run before it is gone; it is launched again.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED}:
        _log.info("Run %s is %s: this message is dropped.", run_id, run.status.value if run else "gone")
        return None
    parent = run.parent_run_id and RunLease(lease_client(get_settings().redis_url), run.parent_run_id).holder()
    if parent:
        _log.info("Run %s waits for the end of the one before it, on %s.", run_id, parent)
    return None if parent else run


def _with_flag(lease: RunLease, instance: dg.DagsterInstance, run_id: str) -> RunLease:
    """The lease of a video's run hears its video's cancel flag too."""
    run = instance.get_run_by_id(run_id)
    video = run and run.tags.get(PARTITION_TAG)
    if run is None or video is None:
        return lease
    return RunLease(lease_client(get_settings().redis_url), run_id, video=video, owner=lock_owner(run))


def _end_cancelled(instance: dg.DagsterInstance, run_id: str) -> None:
    """A run that was cancelled while it was not yet, or no longer, executed: nobody else ends it."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, "Cancelled while it was not executed.")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Dagster hear interrupts, between steps too, and give Celery its signals back afterwards: Dagster leaves
    SIGTERM ignored, and then the pool could not end this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with capture_interrupts():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
