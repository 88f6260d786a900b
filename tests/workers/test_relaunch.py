"""Launched runs without a worker, as the reconcile sensor sees them. No worker is there."""

import pytest

from tests.workers.gate import Gate
from tests.workers.site import Site
from videomoments_dagster.defs.workers.configuration import QUEUE_TAG
from videomoments_dagster.defs.workers.launcher import PROCESS_DIED
from videomoments_dagster.defs.workers.relaunch import BATCH, MOST_DEATHS, RELAUNCH_SECONDS, Relaunched, relaunch_lost
from videomoments_dagster.requests.workers import Worker


def test_a_run_whose_process_died_before_it_had_begun_is_launched_again_but_not_for_ever(site: Site) -> None:
    run = _lost(site, site.gate(), "deadly")
    for death in range(1, MOST_DEATHS + 1):
        site.lease(run).declare_lost(PROCESS_DIED)
        site.let_pass(RELAUNCH_SECONDS + 1)
        last = death == MOST_DEATHS
        outcome = relaunch_lost(site.instance, site.launcher)
        assert outcome == Relaunched(published=not last, failed=last, unserved=["deadly"])
        if not last:
            assert site.lease(run).verdict() is None, "any worker may claim it"
            assert run in str(site.redis.lpop("deadly")), "and takes the message"
    assert site.status(run) == "FAILURE"
    assert f"{MOST_DEATHS} worker processes died" in site.story(run)
    assert site.redis.llen("deadly") == 0
    assert relaunch_lost(site.instance, site.launcher) == Relaunched()


def test_queues_whose_runs_no_worker_takes_are_named(site: Site) -> None:
    gate = site.gate()
    runs = [_lost(site, gate, queue) for queue in ("zebra", "ape", "ape", "served")]
    site.registry.announce(Worker("w", "host", 1, queues=["served"], processes=1, running=0))
    assert site.lease(runs[0]).claim("somebody")
    assert relaunch_lost(site.instance, site.launcher).unserved == ["ape"], "zebra's run has a worker"
    site.lease(runs[0]).release("somebody")
    assert relaunch_lost(site.instance, site.launcher).unserved == ["ape", "zebra"]
    site.registry.leave("w")
    for run in runs:
        assert site.launcher.terminate(run)
    assert relaunch_lost(site.instance, site.launcher).unserved == []


@pytest.mark.slow
def test_of_many_lost_runs_those_that_waited_longest_are_launched_first(site: Site) -> None:
    gate = site.gate()
    oldest = [_lost(site, gate, "crowded") for _ in range(3)]
    site.let_pass(1)
    runs = oldest + [_lost(site, gate, "crowded") for _ in range(BATCH - 1)]
    site.let_pass(RELAUNCH_SECONDS)
    newest = _lost(site, gate, "crowded")
    assert relaunch_lost(site.instance, site.launcher).published == BATCH
    assert _messages(site) == set(runs[:BATCH])
    site.let_pass(1)
    assert relaunch_lost(site.instance, site.launcher).published == len(runs) - BATCH, "the others had their turn"
    assert _messages(site) == set(runs)
    for run in [*runs, newest]:
        assert site.launcher.terminate(run)


def _lost(site: Site, gate: Gate, queue: str) -> str:
    """A launched run whose message is gone."""
    run = site.launch("quick", gate, **{QUEUE_TAG: queue})
    assert run in str(site.redis.rpop(queue))
    return run


def _messages(site: Site) -> set[str]:
    waiting = str(site.redis.lrange("crowded", 0, -1))
    return {run.run_id for run in site.instance.get_runs() if run.run_id in waiting}
