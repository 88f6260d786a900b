"""Cancelling a run, and stopping a worker: what is at work ends, what waits is left to others."""

import logging
import os
import signal
import threading
import time

import dagster as dg
import pytest
from dagster._core.storage.tags import MAX_RETRIES_TAG, PRIORITY_TAG, WILL_RETRY_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from tests.workers.site import RunningWorker, Site, gone, stopped, until
from videomoments_dagster.defs.workers.configuration import QUEUE_TAG
from videomoments_dagster.defs.workers.launcher import HANDED_BACK
from videomoments_dagster.requests.lease import RENEW_SECONDS

CANCEL_SECONDS = 2.0
GRACE_SECONDS = 3
_NOISE_SECONDS = 2.0  # of a machine that has other tests to run


@pytest.fixture(scope="module")
def workers(site: Site) -> dict[str, RunningWorker]:
    """Started together; each but the first serves a queue of its own, and is stopped by one test."""
    started = {"video": site.worker("--concurrency=2")}
    graces = {"interrupted": 60, "terminated": GRACE_SECONDS, "hangup": 1, "impatient": 60}
    for queue, grace in graces.items():
        options = ("--concurrency=2", f"--queues={queue}")
        started[queue] = site.worker(*options, VIDEOMOMENTS_WORKER_GRACE_SECONDS=str(grace))
    for worker in started.values():
        worker.ready()
    return started


@pytest.mark.slow
def test_a_cancelled_run_ends_at_once_with_what_it_started_and_its_process_goes_on(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    gate, others = site.gate(), site.gate()
    processes = {process.pid for process in workers["video"].children()}
    run = site.launch("family", gate)
    child = gate.entered()
    begun = time.monotonic()
    assert site.launcher.terminate(run)
    assert site.ends(run) == ["CANCELED"]
    assert time.monotonic() - begun < CANCEL_SECONDS + _NOISE_SECONDS
    until(lambda: gone(child))
    runs = [site.launch("quick", others) for _ in range(4)]
    assert site.ends(*runs) == ["SUCCESS"] * 4
    assert {pid for _, pid in gate.executed() + others.executed()} <= processes
    assert {process.pid for process in workers["video"].children()} == processes
    assert not site.launcher.terminate(run), "it is over"


@pytest.mark.slow
def test_a_run_cancelled_in_the_broker_is_over_at_once_and_never_executed(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    busy, gate = site.gate(), site.gate()
    at_work = [site.launch("waiting", busy) for _ in range(2)]
    for _ in at_work:
        busy.entered()
    run = site.launch("quick", gate)
    assert site.launcher.terminate(run)
    assert site.status(run) == "CANCELED"
    for _ in at_work:
        busy.open()
    later = site.launch("quick", site.gate())
    assert site.ends(*at_work, later) == ["SUCCESS"] * 3
    assert until(lambda: not site.redis.llen("video"))
    assert gate.executed() == []
    assert site.status(run) == "CANCELED"


@pytest.mark.slow
@pytest.mark.parametrize("order_comes", ["before the start", "after the start"])
def test_a_cancellation_that_the_runs_own_start_overwrites_is_a_cancellation(
    site: Site, workers: dict[str, RunningWorker], order_comes: str
) -> None:
    gate = site.gate()
    run = site.launch("late", gate)
    gate.entered()
    site.instance.report_run_canceling(site.run(run))
    if order_comes == "before the start":
        site.lease(run).order_cancel()
        threading.Event().wait(RENEW_SECONDS + 0.5)
    gate.open()
    if order_comes == "after the start":
        gate.entered()
        assert site.status(run) == "STARTED", "Dagster's own race; an interrupt would now count as a crash"
        site.lease(run).order_cancel()
    assert site.ends(run) == ["CANCELED"], site.story(run)
    assert WILL_RETRY_TAG not in site.run(run).tags


@pytest.mark.slow
def test_a_worker_that_is_interrupted_ends_with_its_run_and_takes_no_other(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    gate = site.gate()
    worker = workers["interrupted"]
    run = site.launch("waiting", gate, **{QUEUE_TAG: "interrupted"})
    gate.entered()
    os.killpg(worker.process.pid, signal.SIGINT)  # as a terminal does it, to the whole group
    until(lambda: not worker.is_listed)
    other = site.launch("quick", gate, **{QUEUE_TAG: "interrupted"})
    gate.open()
    assert worker.ends() == 0
    assert site.ends(run) == ["SUCCESS"], site.story(run)
    assert site.status(other) == "STARTING"
    assert site.redis.llen("interrupted") == 1, "for the next worker of this queue"
    assert not worker.is_listed


@pytest.mark.slow
def test_a_run_that_outlasts_the_grace_time_is_handed_back_and_loses_no_retry(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    in_time, late = site.gate(), site.gate()
    worker = workers["terminated"]
    tags = {QUEUE_TAG: "terminated", PRIORITY_TAG: "no number"}
    ended, handed_back = (site.launch("waiting", gate, **tags) for gate in (in_time, late))
    in_time.entered()
    process = late.entered()
    worker.process.send_signal(signal.SIGTERM)
    until(lambda: not worker.is_listed)
    in_time.open()
    assert site.ends(ended) == ["SUCCESS"]
    assert worker.ends(seconds=8) == 0
    until(lambda: gone(process))
    assert site.lease(handed_back).verdict() == HANDED_BACK
    with WorkspaceProcessContext(site.instance, EmptyWorkspaceTarget()) as context:
        assert not any(execute_run_monitoring_iteration(context, logging.getLogger(__name__)))
    run = site.run(handed_back)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert run.tags[WILL_RETRY_TAG] == "true"
    assert run.tags[PRIORITY_TAG] == "1", "before those that wait for their turn"
    assert int(run.tags[MAX_RETRIES_TAG]) == site.instance.run_retries_max_retries + 1
    assert not worker.is_listed


@pytest.mark.slow
def test_a_worker_that_is_asked_twice_hands_its_runs_back_at_once(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    gate = site.gate()
    worker = workers["impatient"]
    run = site.launch("waiting", gate, **{QUEUE_TAG: "impatient"})
    process = gate.entered()
    for _ in range(2):
        os.killpg(worker.process.pid, signal.SIGINT)
        until(lambda: not worker.is_listed)
    assert worker.ends(seconds=_NOISE_SECONDS) == 0
    until(lambda: gone(process))
    assert site.lease(run).verdict() == HANDED_BACK
    assert site.status(run) == "STARTED", "not failed by the signal: it would lose a retry"


@pytest.mark.slow
def test_a_worker_whose_terminal_is_closed_drains_and_ends_though_redis_hangs(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    gate = site.gate()
    worker = workers["hangup"]
    site.launch("waiting", gate, **{QUEUE_TAG: "hangup"})
    process = gate.entered()
    assert site.redis_server.process
    with stopped(site.redis_server.process.pid):
        begun = time.monotonic()
        worker.process.send_signal(signal.SIGHUP)
        assert worker.ends(seconds=1 + 2 * _NOISE_SECONDS) == 0
        assert time.monotonic() - begun >= 1
        until(lambda: gone(process))
