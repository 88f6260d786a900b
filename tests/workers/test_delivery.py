"""Messages that come twice, late or never: every run is executed, and none twice."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from dagster._core.launcher import WorkerStatus

from tests.workers.gate import Gate, executions
from tests.workers.graph import POOL
from tests.workers.site import RunningWorker, Site, stopped, until
from videomoments_dagster.defs.workers.configuration import QUEUE_TAG, VISIBILITY_SECONDS
from videomoments_dagster.defs.workers.launcher import PROCESS_DIED
from videomoments_dagster.defs.workers.relaunch import RELAUNCH_SECONDS, relaunch_lost
from videomoments_dagster.requests.lease import CONFIRM_SECONDS, FENCE_SECONDS


@pytest.fixture(scope="module")
def worker(site: Site) -> RunningWorker:
    return site.worker("--concurrency=2").ready()


@dataclass
class Latecomer:
    """A worker that joined when runs of its queue had waited, and those runs."""

    worker: RunningWorker
    runs: list[str]
    gate: Gate


@pytest.fixture(scope="module")
def latecomer(site: Site, worker: RunningWorker) -> Latecomer:
    gate = site.gate()
    runs = [site.launch("quick", gate, **{QUEUE_TAG: "gpu"}) for _ in range(2)]
    assert site.redis.llen("gpu") == 2
    assert runs[0] in str(site.redis.rpop("gpu")), "the message of the first is lost"
    site.lease(runs[0]).declare_lost(PROCESS_DIED)  # as when the process that took it died before it had begun
    assert relaunch_lost(site.instance, site.launcher).published == 0, "it may be on its way"
    site.let_pass(RELAUNCH_SECONDS + 1)
    assert relaunch_lost(site.instance, site.launcher).published == 2, "which of the two it was can't be told"
    site.let_pass(RELAUNCH_SECONDS + 1)
    assert relaunch_lost(site.instance, site.launcher).published == 0, "messages wait"
    assert site.ends(site.launch("quick", site.gate())) == ["SUCCESS"], "other queues go on"
    assert [site.status(run) for run in runs] == ["STARTING"] * 2
    return Latecomer(site.worker("--concurrency=1", "--queues=gpu,other").ready(), runs, gate)


@pytest.mark.slow
def test_a_message_that_comes_again_executes_nothing_again(site: Site, worker: RunningWorker) -> None:
    gate, others = site.gate(), site.gate()
    run = site.create("waiting", gate)
    site.instance.launch_run(run, workspace=None)  # pyright: ignore[reportArgumentType]
    gate.entered()
    for _ in range(3):
        site.send_again(run)
    assert site.ends(site.launch("quick", others)) == ["SUCCESS"], "by the other process, after the copies"
    assert site.lease(run).holder()
    gate.open()
    assert site.ends(run) == ["SUCCESS"]
    site.send_again(run)
    assert site.ends(*[site.launch("quick", others) for _ in range(3)]) == ["SUCCESS"] * 3
    assert executions(gate) == {run: 2}, "each of its two steps once"
    assert site.lease(run).holder() is None


@pytest.mark.slow
def test_a_retry_waits_until_the_process_of_the_run_before_it_is_gone(site: Site, worker: RunningWorker) -> None:
    """That run was ended by hand, or by a limit of Dagster's, while its process was at work."""
    gate, others = site.gate(), site.gate()
    before = site.create("quick", gate)
    assert site.lease(before).claim("elsewhere")
    retry = site.create_retry(before, gate)
    site.instance.launch_run(retry, workspace=None)  # pyright: ignore[reportArgumentType]
    assert site.ends(*[site.launch("quick", others) for _ in range(4)]) == ["SUCCESS"] * 4
    until(lambda: site.lease(retry).holder() is None)
    assert (site.status(retry), gate.executed()) == ("STARTING", [])
    site.lease(before).release("elsewhere")
    site.let_pass(RELAUNCH_SECONDS + 1)
    assert relaunch_lost(site.instance, site.launcher).published >= 1
    assert site.ends(retry) == ["SUCCESS"]
    assert executions(gate) == {retry: 2}


@pytest.mark.slow
def test_runs_wait_for_a_worker_of_their_queue_and_a_lost_message_is_sent_again(
    site: Site, worker: RunningWorker, latecomer: Latecomer
) -> None:
    assert site.ends(*latecomer.runs) == ["SUCCESS"] * 2
    assert executions(latecomer.gate) == dict.fromkeys(latecomer.runs, 2)
    listed = {each["pid"]: each for each in json.loads(site.command("workers", "--json"))}
    assert listed[latecomer.worker.process.pid]["queues"] == ["gpu", "other"]
    assert listed[worker.process.pid]["queues"] == ["video"]
    assert listed[worker.process.pid]["processes"] == 2


@pytest.mark.slow
def test_a_message_that_died_with_its_worker_comes_again(site: Site, worker: RunningWorker) -> None:
    """Fetched, and never given to a process. Any worker puts it back, whatever queues it serves."""
    run = site.launch("quick", site.gate(), **{QUEUE_TAG: "unserved"})
    with site.launcher.celery.connection_for_read() as connection, closing(connection.channel()) as channel:
        assert channel.basic_get("unserved")
        channel.qos.restore_at_shutdown = False  # it dies
        assert site.redis.llen("unserved") == 0
        assert relaunch_lost(site.instance, site.launcher).published == 0
        fetched: Any = site.redis.zrange("unacked_index", 0, -1)
        site.redis.zincrby("unacked_index", -VISIBILITY_SECONDS, *fetched)
        until(lambda: site.redis.llen("unserved"), seconds=10)
    assert run in str(site.redis.lindex("unserved", 0))
    assert site.redis.hlen("unacked") == 0
    assert site.launcher.terminate(run)


@pytest.mark.slow
def test_a_pool_holds_across_workers(site: Site, latecomer: Latecomer) -> None:
    site.instance.event_log_storage.set_concurrency_slots(POOL, 1)
    gate = site.gate()
    runs = [site.launch("slotted", gate), site.launch("slotted", gate, **{QUEUE_TAG: "gpu"})]
    gate.entered()
    until(lambda: {site.status(run) for run in runs} == {"STARTED"})
    threading.Event().wait(1.5)  # Dagster asks for a slot every second
    assert gate.is_quiet
    gate.open()
    gate.entered()
    gate.open()
    assert site.ends(*runs) == ["SUCCESS"] * 2


def _restart(site: Site) -> None:
    site.redis_server.stop()
    site.redis_server.start()


def _kill(site: Site) -> None:
    assert site.redis_server.process
    os.kill(site.redis_server.process.pid, signal.SIGKILL)
    site.redis_server.process.wait()
    site.redis_server.start()


@pytest.mark.slow
@pytest.mark.parametrize("restart", [_restart, _kill])
def test_a_broker_that_restarts_loses_no_run(
    site: Site, worker: RunningWorker, restart: Callable[[Site], None]
) -> None:
    gate, quick = site.gate(), site.gate()
    at_work = [site.launch("waiting", gate) for _ in range(2)]
    for _ in at_work:
        gate.entered()
    queued = [site.launch("quick", quick) for _ in range(3)]
    restart(site)
    site.let_pass(RELAUNCH_SECONDS + 1)
    relaunch_lost(
        site.instance, site.launcher
    )  # as reconcile does: a killed server may lose what it had not yet written
    site.redis.delete("workers")
    for _ in at_work:
        gate.open()
    assert site.ends(*at_work, *queued) == ["SUCCESS"] * 5
    assert executions(gate) == dict.fromkeys(at_work, 2)
    assert executions(quick) == dict.fromkeys(queued, 2)
    worker.ready()


@pytest.mark.slow
def test_a_run_goes_on_while_redis_hangs_for_longer_than_its_lease(site: Site, worker: RunningWorker) -> None:
    gate = site.gate()
    run_id = site.launch("waiting", gate)
    process = gate.entered()
    assert site.redis_server.process
    with stopped(site.redis_server.process.pid):
        threading.Event().wait(FENCE_SECONDS + 1.5)
        assert process.is_running()
    back_at = time.monotonic()
    run = site.run(run_id)
    assert site.launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    until(site.lease(run_id).holder)
    assert time.monotonic() - back_at < CONFIRM_SECONDS
    assert site.launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    gate.open()
    assert site.ends(run_id) == ["SUCCESS"]
    assert executions(gate) == {run_id: 2}
