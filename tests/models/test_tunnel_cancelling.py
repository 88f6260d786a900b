"""Tunnels and runs that are cancelled while they open one: Dagster interrupts the main thread wherever it is."""

import contextlib
import gc
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType

import pytest

from tests.models.remote import eventually, opens, say
from tests.models.sshd import Sshd
from videomoments_dagster.models.ssh import Shared
from videomoments_dagster.models.tunnels import TunnelPool


class Cancelled(BaseException):
    """What a signal handler raises in the main thread when a run is cancelled."""


def cancelled_after(seconds: float, work: Callable[[], object]) -> bool:
    """Whether `work` was interrupted before it was done."""
    assert threading.current_thread() is threading.main_thread()
    armed = [True]

    def cancel(number: int, frame: object) -> None:
        if armed[0]:
            raise Cancelled

    before = signal.signal(signal.SIGALRM, cancel)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        work()
    except Cancelled:
        return True
    else:
        return False
    finally:
        armed[0] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_ssh_library_never_runs_in_a_thread_that_may_be_interrupted(
    own_sshd: Sshd, pool: TunnelPool, echoing: int
) -> None:
    """An interrupt inside of it leaves its locks held, and every later channel of that login waits for ever."""
    ours: list[str] = []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "paramiko" in frame.f_code.co_filename and frame.f_code.co_name != "is_active":
            ours.append(frame.f_code.co_name)

    import paramiko  # importing is not what is watched

    assert paramiko
    sys.setprofile(watch)
    try:
        with pool.open(own_sshd.route(echoing)) as address:
            pass
    finally:
        sys.setprofile(None)
    assert ours == []
    assert say(address) == b"hello"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # an interrupt that lands in a destructor
def test_a_tunnel_works_on_after_runs_were_cancelled_while_it_opened(own_sshd: Sshd, echoing: int) -> None:
    pool = TunnelPool(idle_seconds=0.3, timeout_seconds=1)
    with contextlib.closing(pool):
        cancelled = [
            cancelled_after(0.0001 + step * 0.0002, partial(opens, pool, own_sshd.route(port)))
            for step in range(20)
            for port in (1 + step, echoing)  # where nobody listens, each channel is asked for anew
        ]
        assert sum(cancelled) > 5
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(opens, pool, own_sshd.route(echoing)).result(5)
        assert own_sshd.logins == 1
        gc.collect()  # frames that tracebacks in cycles hold are users too, until they go
        assert eventually(lambda: not own_sshd.sessions())  # none of them is thought to use it still


def test_an_interrupt_ends_the_waiting_of_one_thread_only() -> None:
    shared, begun, finish = Shared[str](), threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert finish.wait(10)
        return "done"

    with ThreadPoolExecutor(1) as threads:
        innocent = threads.submit(lambda: begun.wait(10) and shared(work))
        assert cancelled_after(0.1, lambda: shared(work))
        finish.set()
        assert innocent.result(5) == "done"
