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
from typing import Any, NoReturn

import celery
import dagster as dg
import redis
from celery.utils.log import get_task_logger
from dagster._utils.interrupts import capture_interrupts

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.lease import FENCE_SECONDS, RENEW_SECONDS, LeaseLost, RunLease
from videomoments_dagster.settings import get_settings

CANCEL_GRACE_SECONDS = 20.0
"""How long an interrupted run may take to end before its process is killed: native code may never look up."""
_CLAIM_SECONDS = 60.0
_AT_WORK = {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING}

_log = get_task_logger(__name__)


class LeasedTask(celery.Task):
    """Base of the tasks that execute runs. The task's id is the run's."""

    abstract = True
    typing = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run_id = str(self.request.id)
        lease, holder = RunLease(_redis(get_settings().redis_url), run_id), _holder()
        if not _claim(lease, holder):
            _log.info("Run %s is executed elsewhere: this message is dropped.", run_id)
            return None
        try:
            with dg.DagsterInstance.get() as instance, _interruptible(), _held(lease, holder, instance, run_id):
                if _may_start(instance, run_id):
                    return super().__call__(*args, **kwargs)
        finally:
            with suppress(ServiceUnavailable):
                lease.release(holder)
        return None


def _holder() -> str:
    """This process, unique among all that ever ran anywhere."""
    return f"{gethostname()}:{os.getpid()}:{token_hex(4)}"


@cache
def _redis(url: str) -> "redis.Redis":
    """Short timeouts: a renewal that hangs is one that failed, well before FENCE_SECONDS."""
    return redis.Redis.from_url(url, decode_responses=True, socket_connect_timeout=2, socket_timeout=2)


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


def _may_start(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run still waits to be executed. To be asked under the lease: then no other can answer yes."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, "Cancelled before it was executed.")
    if run is None or run.status not in {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED}:
        _log.info("Run %s is %s: this message is dropped.", run_id, run.status.value if run else "gone")
        return False
    return True


@contextmanager
def _held(lease: RunLease, holder: str, instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Renew the lease while the body runs, and interrupt it when it is to be cancelled.

    The kernel's timer is the fence: set anew at every renewal, it ends this process when none succeeds for
    FENCE_SECONDS, even when a native call keeps every thread from running. So a process that hangs, sleeps or is cut
    off is gone before its run can be given to another.
    """
    ended = threading.Event()

    def keep() -> None:
        cancelled_at: float | None = None
        while not ended.wait(RENEW_SECONDS):
            begun = time.monotonic()
            try:
                cancel = lease.renew(holder)
            except LeaseLost:
                _end_now(f"Run {run_id} was given to another: this process ends.")
            except ServiceUnavailable:
                # Redis may be away for everybody, and the run goes on; the run's own record says when it may not.
                run = instance.get_run_by_id(run_id)
                if run is None or run.status not in _AT_WORK:
                    _end_now(f"Run {run_id} has ended while Redis was away: this process ends.")
                cancel = run.status is dg.DagsterRunStatus.CANCELING
            if ended.is_set():
                return
            _set_fence(FENCE_SECONDS - (time.monotonic() - begun))
            if cancel and cancelled_at is None:
                cancelled_at = time.monotonic()
                os.kill(os.getpid(), signal.SIGINT)
            if cancelled_at is not None and time.monotonic() - cancelled_at > CANCEL_GRACE_SECONDS:
                _end_now(f"Run {run_id} did not end when it was cancelled: this process ends.")

    thread = threading.Thread(target=keep, name=f"lease-{run_id}", daemon=True)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _set_fence(FENCE_SECONDS)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _set_fence(0)


def _set_fence(seconds: float) -> None:
    """0 takes it down."""
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds) if seconds else 0)


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


def _end_now(why: str) -> NoReturn:
    _log.error(why)
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)
