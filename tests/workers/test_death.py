"""Processes that are killed, frozen, or hang: their runs are noticed within 15 s, and retried from the failed step.

Everything dies at the same moment and is then watched together, with Dagster's own daemon at work.
"""

import signal
import time
from dataclasses import dataclass

import psutil
import pytest

from tests.workers.gate import Gate, executions
from tests.workers.graph import POOL
from tests.workers.site import RunningWorker, Site, gone, until
from videomoments_dagster.defs.workers.configuration import QUEUE_TAG

LIMIT = 6
SETTINGS = {"VIDEOMOMENTS_MAX_CONCURRENT_RUNS": str(LIMIT)}
NOTICED_SECONDS = 15.0


@dataclass
class Victim:
    """A run, the process that executed it, and after how many seconds it was declared lost."""

    run: str
    gate: Gate
    process: psutil.Process
    noticed_seconds: float = 0.0


@dataclass
class Aftermath:
    killed: Victim
    orphaned: Victim
    frozen: Victim
    hung: Victim
    deaf: Victim
    bystander: Victim
    queued: str
    heir: RunningWorker

    @property
    def victims(self) -> list[Victim]:
        return [self.killed, self.orphaned, self.frozen, self.hung]


@pytest.fixture(scope="module")
def aftermath(site: Site) -> Aftermath:
    """Six runs at work on two workers. Then one's process is killed, one's worker, one's process is frozen, and one
    hangs: these are watched until they are declared lost. Another one hangs and is cancelled."""
    site.daemon()
    worker, doomed = site.worker("--concurrency=6"), site.worker("--concurrency=1", "--queues=doomed")
    worker.ready()
    doomed.ready()
    site.instance.event_log_storage.set_concurrency_slots(POOL, 1)
    begun = []
    video = [(job, "video") for job in ("slotted", "waiting", "waiting", "stuck", "stuck")]
    for job, queue in [("waiting", "doomed"), *video]:
        gate = site.gate()
        begun.append((site.submit(job, gate, **{QUEUE_TAG: queue}), gate))
    victims = [Victim(run, gate, gate.entered(seconds=40)) for run, gate in begun]
    orphaned, killed, frozen, bystander, hung, deaf = victims
    queued = site.submit("quick", site.gate())

    died_at = time.monotonic()
    killed.process.kill()
    doomed.process.kill()
    frozen.process.send_signal(signal.SIGSTOP)
    assert site.launcher.terminate(deaf.run)
    heir = site.worker("--concurrency=1", "--queues=doomed")
    aftermath = Aftermath(killed, orphaned, frozen, hung, deaf, bystander, queued, heir)

    left = list(aftermath.victims)

    def all_are_lost() -> bool:
        for victim in list(left):
            if site.status(victim.run) == "FAILURE":
                victim.noticed_seconds = time.monotonic() - died_at
                left.remove(victim)
        assert len(left) < len(aftermath.victims) or site.status(queued) == "QUEUED", "six at once, on all workers"
        return not left

    until(all_are_lost, seconds=NOTICED_SECONDS + 10)
    assert frozen.process.status() == psutil.STATUS_STOPPED
    frozen.process.send_signal(signal.SIGCONT)
    return aftermath


@pytest.mark.slow
def test_every_lost_run_is_noticed(aftermath: Aftermath) -> None:
    noticed = {name: getattr(aftermath, name).noticed_seconds for name in ("killed", "orphaned", "frozen", "hung")}
    assert max(noticed.values()) < NOTICED_SECONDS, noticed
    assert gone(aftermath.orphaned.process), "it ends with its parent"
    assert gone(aftermath.hung.process)


@pytest.mark.slow
def test_a_frozen_process_that_comes_back_does_nothing_more(site: Site, aftermath: Aftermath) -> None:
    until(lambda: gone(aftermath.frozen.process), seconds=2)
    assert site.status(aftermath.frozen.run) == "FAILURE"


@pytest.mark.slow
def test_a_cancelled_run_that_hears_nothing_is_killed(site: Site, aftermath: Aftermath) -> None:
    assert gone(aftermath.deaf.process)
    assert site.status(aftermath.deaf.run) in {"CANCELING", "CANCELED"}


@pytest.mark.slow
def test_lost_runs_are_retried_from_their_failed_step(site: Site, aftermath: Aftermath) -> None:
    for victim in aftermath.victims:
        retry = until(lambda victim=victim: site.retry_of(victim.run), seconds=30)
        if victim is not aftermath.hung:
            assert victim.gate.entered(seconds=30).pid != victim.process.pid, "a slot of its pool was free"
            victim.gate.open()
        assert site.ends(retry) == ["SUCCESS"], site.story(retry)
        assert executions(victim.gate) == {victim.run: 2, retry: 1}
        assert len(victim.gate.executed("first")) == 1
    assert site.ends(aftermath.queued) == ["SUCCESS"]


@pytest.mark.slow
def test_a_run_of_the_same_worker_goes_on_unharmed(site: Site, aftermath: Aftermath) -> None:
    bystander = aftermath.bystander
    assert not gone(bystander.process)
    bystander.gate.open()
    assert site.ends(bystander.run) == ["SUCCESS"]
    assert executions(bystander.gate) == {bystander.run: 2}
    assert {pid for _, pid in bystander.gate.executed()} == {bystander.process.pid}
