"""What keeps a run its process's own while it is executed: the lease is renewed, orders are heard, and the process ends
itself when it may no longer go on.

The kernel's timer is the fence: set anew at every renewal, it ends this process when none succeeds for FENCE_SECONDS,
even when a native call keeps every thread from running. So a process that hangs, sleeps or is cut off is gone before
its run can be given to another.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import dagster as dg
from celery.utils.log import get_task_logger

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.lease import FENCE_SECONDS, RENEW_SECONDS, LeaseLost, RunLease

CANCEL_GRACE_SECONDS = 20.0
"""How long an interrupted run may take to end before its process is killed: native code may never look up."""
INTERRUPT_SECONDS = 4.0
"""An interrupt can meet code that takes it for a failure and tries again: who goes on is interrupted again."""
LOOK_SECONDS = 5.0
"""How often the run's own record is looked at: an order may be lost on its way, and a run be ended by hand."""
_AT_WORK = {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING}

_log = get_task_logger(__name__)


class Keeper:
    """Keeps one run that this process has claimed as `holder`."""

    def __init__(self, lease: RunLease, holder: str, instance: dg.DagsterInstance, run_id: str) -> None:
        self._lease, self._holder, self._instance, self._run_id = lease, holder, instance, run_id
        self._ended, self._cancelled = threading.Event(), threading.Event()

    @contextmanager
    def keep(self) -> Iterator[None]:
        """While the body executes the run. Raises LeaseLost, before the body, when the claim is gone already."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        _set_fence(FENCE_SECONDS)
        renewing = threading.Thread(target=self._renew, name=f"lease-{self._run_id}", daemon=True)
        looking = threading.Thread(target=self._look, name=f"look-{self._run_id}", daemon=True)
        try:
            self._lease.renew(self._holder)  # from here on the fence holds; the claim may have been long ago
            renewing.start()
            looking.start()
            yield
        finally:
            self._ended.set()
            if renewing.is_alive():
                renewing.join()
            _set_fence(0)

    def _renew(self) -> None:
        cancelled_at: float | None = None
        interrupted_at = -INTERRUPT_SECONDS
        while not self._ended.wait(RENEW_SECONDS):
            begun = time.monotonic()
            try:
                if self._lease.renew(self._holder):
                    self._cancelled.set()
            except LeaseLost:
                self._end_process("was given to another")
            except ServiceUnavailable:
                # Redis may be away for everybody, and the run goes on; the run's own record says when it may not.
                if not self._is_at_work():
                    continue
            if self._ended.is_set():
                return
            _set_fence(FENCE_SECONDS - (time.monotonic() - begun))
            if self._cancelled.is_set() and cancelled_at is None:
                cancelled_at = time.monotonic()
            if cancelled_at is not None and time.monotonic() - interrupted_at > INTERRUPT_SECONDS and self._interrupt():
                interrupted_at = time.monotonic()
            if cancelled_at is not None and time.monotonic() - cancelled_at > CANCEL_GRACE_SECONDS:
                self._end_process("did not end when it was cancelled")

    def _look(self) -> None:
        """A thread of its own: PostgreSQL may stall for a while, and nothing is wrong."""
        ended_looks = 0
        while not self._ended.wait(LOOK_SECONDS):
            record = self._record()
            if record is None:
                continue
            run = record.dagster_run
            if run.status is dg.DagsterRunStatus.CANCELING:
                self._cancelled.set()
            ended_looks = 0 if run.status in _AT_WORK else ended_looks + 1
            if ended_looks == 2 and not self._ended.is_set():  # once may be our own end
                self._end_process(f"is {run.status.value} by another's word")

    def _is_at_work(self) -> bool:
        """By the run's record. False when that can't be asked for either; the process ends when it says no."""
        record = self._record()
        if record is None:
            return False
        run = record.dagster_run
        if run.status not in _AT_WORK:
            self._end_process("has ended while Redis was away")
        if run.status is dg.DagsterRunStatus.CANCELING:
            self._cancelled.set()
        return True

    def _interrupt(self) -> bool:
        """Dagster takes an interrupt for a cancellation only if the run is being cancelled, and the run's start, when
        it is written down, overwrites that. So the start is waited for. Returns whether the run was interrupted."""
        record = self._record()
        if record is not None:
            if record.start_time is None:
                return False
            if record.dagster_run.status is dg.DagsterRunStatus.STARTED:
                self._instance.report_run_canceling(record.dagster_run)
        os.kill(os.getpid(), signal.SIGINT)
        return True

    def _record(self) -> dg.RunRecord | None:
        try:
            return self._instance.get_run_record_by_id(self._run_id)
        except Exception:  # whatever Dagster's storage raises while PostgreSQL is away
            _log.warning("Run %s can't be looked at.", self._run_id, exc_info=True)
            return None

    def _end_process(self, why: str) -> NoReturn:
        _log.error("Run %s %s: this process ends.", self._run_id, why)
        os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)


def _set_fence(seconds: float) -> None:
    """0 takes it down."""
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds) if seconds else 0)
