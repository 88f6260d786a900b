"""What a process that executes a run hears from others, and what it does while Redis answers nothing but errors."""

import threading
import time
from dataclasses import dataclass

import psutil
import pytest
from dagster._core.launcher import WorkerStatus

from tests.workers.gate import Gate, executions
from tests.workers.site import RunningWorker, Site, gone, until
from videomoments_dagster.defs.workers.keeping import LOOK_SECONDS
from videomoments_dagster.defs.workers.launcher import PROCESS_DIED
from videomoments_dagster.defs.workers.relaunch import RELAUNCH_SECONDS, relaunch_lost
from videomoments_dagster.requests.lease import FENCE_SECONDS, RENEW_SECONDS, TTL_SECONDS

PROCESSES = 4
_NOISE_SECONDS = 2.0  # of a machine that has other tests to run
_REFUSALS = {
    "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "demoted": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
}


@pytest.fixture(scope="module")
def worker(site: Site) -> RunningWorker:
    return site.worker(f"--concurrency={PROCESSES}").ready()


@dataclass
class Overruled:
    """A run at work that others decided about, and after how many seconds that was heard."""

    run: str
    gate: Gate
    process: psutil.Process
    heard_seconds: float = 0.0


@dataclass
class Decisions:
    cancelled: Overruled
    ended: Overruled
    given_away: Overruled


@pytest.fixture(scope="module")
def decisions(site: Site, worker: RunningWorker) -> Decisions:
    """Three runs at work: one is cancelled, but the order is lost; one is ended by hand; of one the lease is another's.
    They are watched together."""
    runs = [(site.launch("waiting", gate), gate) for gate in (site.gate(), site.gate(), site.gate())]
    decisions = Decisions(*[Overruled(run, gate, gate.entered()) for run, gate in runs])
    begun = time.monotonic()
    site.instance.report_run_canceling(site.run(decisions.cancelled.run))
    site.instance.report_run_failed(site.run(decisions.ended.run), "Marked as failed by hand.")
    site.redis.set(f"run:{decisions.given_away.run}:lease", "elsewhere:1:1:1", ex=120)
    left = {
        "cancelled": lambda: site.run(decisions.cancelled.run).is_finished,
        "ended": lambda: gone(decisions.ended.process),
        "given_away": lambda: gone(decisions.given_away.process),
    }

    def all_are_heard() -> bool:
        for name in [name for name, heard in left.items() if heard()]:
            getattr(decisions, name).heard_seconds = time.monotonic() - begun
            del left[name]
        return not left

    until(all_are_heard, seconds=2 * LOOK_SECONDS + 10)
    return decisions


@pytest.mark.slow
def test_a_cancellation_whose_order_was_lost_is_heard_all_the_same(site: Site, decisions: Decisions) -> None:
    cancelled = decisions.cancelled
    assert cancelled.heard_seconds < LOOK_SECONDS + RENEW_SECONDS + _NOISE_SECONDS
    assert site.status(cancelled.run) == "CANCELED"
    assert not gone(cancelled.process)


@pytest.mark.slow
def test_the_process_of_a_run_that_was_ended_by_hand_ends(
    site: Site, worker: RunningWorker, decisions: Decisions
) -> None:
    assert decisions.ended.heard_seconds < 2 * LOOK_SECONDS + _NOISE_SECONDS
    assert site.status(decisions.ended.run) == "FAILURE"
    until(lambda: site.lease(decisions.ended.run).verdict() == PROCESS_DIED)
    _is_whole(site, worker)


@pytest.mark.slow
def test_a_process_whose_run_was_given_away_ends_and_leaves_it_to_who_has_it(
    site: Site, worker: RunningWorker, decisions: Decisions
) -> None:
    assert decisions.given_away.heard_seconds < RENEW_SECONDS + _NOISE_SECONDS
    _is_whole(site, worker)
    assert site.lease(decisions.given_away.run).holder() == "elsewhere:1:1:1"
    assert site.status(decisions.given_away.run) == "STARTED"


@pytest.mark.slow
def test_a_redis_that_refuses_every_write_costs_no_run(site: Site, worker: RunningWorker) -> None:
    gate, others = site.gate(), site.gate()
    at_work = site.launch("waiting", gate)
    process = gate.entered()
    launched = []
    began = time.monotonic()
    for refuse, accept in _REFUSALS.values():
        site.redis.execute_command(*refuse)
        launched.append(site.launch("quick", others))
        for _ in range(6):
            threading.Event().wait(0.75)
            assert site.launcher.check_run_worker_health(site.run(at_work)).status is WorkerStatus.RUNNING
        site.redis.execute_command(*accept)
    assert time.monotonic() - began > max(FENCE_SECONDS, TTL_SECONDS)
    assert site.launcher.check_run_worker_health(site.run(at_work)).status is WorkerStatus.RUNNING
    assert process.is_running()
    gate.open()
    assert site.ends(at_work) == ["SUCCESS"], site.story(at_work)
    assert executions(gate) == {at_work: 2}
    assert {pid for _, pid in gate.executed()} == {process.pid}
    site.let_pass(RELAUNCH_SECONDS + 1)
    relaunch_lost(site.instance, site.launcher)
    assert site.ends(*launched) == ["SUCCESS"] * 2
    assert executions(others) == dict.fromkeys(launched, 2)
    _is_whole(site, worker)


def _is_whole(site: Site, worker: RunningWorker) -> None:
    """All its processes are there, and execute runs."""
    until(lambda: len(worker.children()) == PROCESSES)
    gate = site.gate()
    runs = [site.launch("waiting", gate) for _ in range(PROCESSES)]
    assert len({gate.entered().pid for _ in runs}) == PROCESSES
    for _ in runs:
        gate.open()
    assert site.ends(*runs) == ["SUCCESS"] * PROCESSES
