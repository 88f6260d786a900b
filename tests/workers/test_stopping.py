"""Cancelling a run, and stopping a worker: what is at work ends, what waits is left to others."""

import logging
import os
import signal
import time

import dagster as dg
import pytest
from dagster._core.storage.tags import MAX_RETRIES_TAG, WILL_RETRY_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from tests.workers.site import RunningWorker, Site, gone, until
from videomoments_dagster.defs.workers.configuration import QUEUE_TAG
from videomoments_dagster.defs.workers.launcher import HANDED_BACK
from videomoments_dagster.requests.lease import FENCE_SECONDS

CANCEL_SECONDS = 2.0
_NOISE_SECONDS = 2.0  # of a machine that has other tests to run


@pytest.fixture(scope="module")
def workers(site: Site) -> dict[str, RunningWorker]:
    """Started together; each but the first serves a queue of its own, and is stopped by one test."""
    started = {"video": site.worker("--concurrency=2")}
    for queue, grace in (("terminated", "60"), ("interrupted", "60"), ("hasty", "0.5")):
        options = ("--concurrency=1", f"--queues={queue}")
        started[queue] = site.worker(*options, VIDEOMOMENTS_WORKER_GRACE_SECONDS=grace)
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
def test_a_cancelled_run_that_hears_nothing_is_killed_and_its_worker_goes_on(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    stuck, others = site.gate(), site.gate()
    bystander = site.launch("waiting", others)
    bystanding = others.entered()
    run = site.launch("stuck", stuck)
    process = stuck.entered()
    assert site.launcher.terminate(run)
    until(lambda: gone(process), seconds=FENCE_SECONDS + _NOISE_SECONDS)
    assert until(lambda: len(workers["video"].children()) == 2)
    assert site.status(run) == "CANCELING", "until Dagster's monitor ends it"
    assert site.ends(site.launch("quick", stuck)) == ["SUCCESS"], "in the new process"
    others.open()
    assert site.ends(bystander) == ["SUCCESS"]
    assert not gone(bystanding)


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["terminated", "interrupted"])
def test_a_worker_that_is_stopped_ends_with_its_run_and_takes_no_other(
    site: Site, workers: dict[str, RunningWorker], queue: str
) -> None:
    gate = site.gate()
    worker = workers[queue]
    run = site.launch("waiting", gate, **{QUEUE_TAG: queue})
    gate.entered()
    if queue == "interrupted":
        os.killpg(worker.process.pid, signal.SIGINT)  # as a terminal does it, to the whole group
    else:
        worker.process.send_signal(signal.SIGTERM)
    until(lambda: not worker.is_listed)
    other = site.launch("quick", gate, **{QUEUE_TAG: queue})
    gate.open()
    worker_answer = worker.ends()
    assert site.ends(run) == ["SUCCESS"], site.story(run)
    assert worker_answer == (0 if queue == "terminated" else 1), "1 is what Celery says to Ctrl-C"
    assert site.status(other) == "STARTING"
    assert site.redis.llen(queue) == 1, "for the next worker of this queue"
    assert not worker.is_listed


@pytest.mark.slow
def test_a_run_that_outlasts_the_grace_time_is_handed_back_and_loses_no_retry(
    site: Site, workers: dict[str, RunningWorker]
) -> None:
    gate = site.gate()
    worker = workers["hasty"]
    run_id = site.launch("waiting", gate, **{QUEUE_TAG: "hasty"})
    process = gate.entered()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ends(seconds=5) == 0
    until(lambda: gone(process))
    assert site.lease(run_id).verdict() == HANDED_BACK
    with WorkspaceProcessContext(site.instance, EmptyWorkspaceTarget()) as context:
        assert not any(execute_run_monitoring_iteration(context, logging.getLogger(__name__)))
    run = site.instance.get_run_by_id(run_id)
    assert run
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert run.tags[WILL_RETRY_TAG] == "true"
    assert int(run.tags[MAX_RETRIES_TAG]) == site.instance.run_retries_max_retries + 1
