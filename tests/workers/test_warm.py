"""Workers fork processes that have everything imported, share no connection, and are replaced before they grow."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.workers.gate import executions
from tests.workers.site import RunningWorker, Site, until
from videomoments_dagster.stack.postgres import connect

MAX_RUNS = 5
RUNS = 12
MEMORY_BYTES = 500 * 1024**2


@pytest.fixture(scope="module")
def reloading(site: Site) -> RunningWorker:
    return site.worker("--concurrency=1", "--queues=reloading", "--reload")


@pytest.fixture(scope="module")
def worker(site: Site, reloading: RunningWorker) -> RunningWorker:
    recycled = {"VIDEOMOMENTS_WORKER_MAX_RUNS": str(MAX_RUNS), "VIDEOMOMENTS_WORKER_MEMORY_BYTES": str(MEMORY_BYTES)}
    return site.worker("--concurrency=2", **recycled).ready()


@pytest.mark.slow
def test_a_process_executes_its_first_run_with_what_was_imported_before_it_was_forked(
    site: Site, worker: RunningWorker
) -> None:
    born = _look_around(site, "video")
    assert born == {"warm": True, "edited": 1}


@pytest.mark.slow
def test_with_reload_every_run_sees_the_code_as_it_is_now(site: Site, reloading: RunningWorker) -> None:
    reloading.ready()
    assert _look_around(site, "reloading", edited=1) == {"warm": False, "edited": 1}
    assert _look_around(site, "reloading", edited=2) == {"warm": False, "edited": 2}


@pytest.mark.slow
def test_runs_at_the_same_time_disturb_each_other_in_nothing_while_processes_are_replaced(
    site: Site, worker: RunningWorker
) -> None:
    gate = site.gate()
    runs = [site.launch("quick", gate) for _ in range(RUNS)]
    assert site.ends(*runs, seconds=60) == ["SUCCESS"] * RUNS
    assert executions(gate) == dict.fromkeys(runs, 2)
    steps = Counter(pid for _, pid in gate.executed())
    assert 2 < max(steps.values()) <= 2 * MAX_RUNS, "two steps a run"
    assert len(steps) * MAX_RUNS >= RUNS
    assert until(lambda: len(worker.children()) == 2)


@pytest.mark.slow
def test_every_process_has_connections_of_its_own(site: Site, worker: RunningWorker) -> None:
    gates = [site.gate(), site.gate()]
    runs = [site.launch("waiting", gate) for gate in gates]
    processes = [gate.entered() for gate in gates]
    assert len(set(processes)) == 2
    database = {process: _sockets(process) & _backends(site) for process in processes}
    assert all(database.values())
    assert not set.intersection(*database.values())
    assert not _sockets(psutil.Process(worker.process.pid)) & _backends(site), "the parent keeps none"
    for gate in gates:
        gate.open()
    assert site.ends(*runs) == ["SUCCESS"] * 2


@pytest.mark.slow
def test_a_connection_that_broke_is_made_anew(site: Site, worker: RunningWorker) -> None:
    gate = site.gate()
    for _ in range(2):
        runs = [site.launch("quick", gate) for _ in range(2)]
        assert site.ends(*runs) == ["SUCCESS"] * 2
        with _database(site) as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchone()
    assert site.ends(site.launch("quick", gate)) == ["SUCCESS"]


@pytest.mark.slow
def test_a_process_that_grew_is_replaced_after_its_run(site: Site, worker: RunningWorker) -> None:
    gate = site.gate()
    run = site.launch("leaking", gate)
    assert site.ends(run) == ["SUCCESS"]
    [(_, pid)] = gate.executed()
    until(lambda: pid not in {process.pid for process in worker.children()})
    assert until(lambda: len(worker.children()) == 2)


def _look_around(site: Site, queue: str, *, edited: int = 1) -> dict[str, object]:
    (site.directory / "modules" / "edited.py").write_text(f"VALUE = {edited}\n")
    gate = site.gate()
    run = site.launch("curious", gate, **{"dagster-celery/queue": queue})
    assert site.ends(run, seconds=40) == ["SUCCESS"], site.story(run)
    return json.loads(Path(gate.directory / f"seen-{run}.json").read_text())


def _sockets(process: psutil.Process) -> set[int]:
    """Local ports of a process's connections."""
    return {each.laddr.port for each in process.net_connections("tcp") if each.laddr}


def _backends(site: Site) -> set[int]:
    """Ports from which clients talk to Dagster's database."""
    with _database(site) as cursor:
        cursor.execute("SELECT client_port FROM pg_stat_activity WHERE datname = current_database()")
        return {int(port) for (port,) in cursor.fetchall() if port}


@contextmanager
def _database(site: Site) -> Iterator[Any]:
    with closing(connect(site.environment["DAGSTER_DATABASE_URL"])) as connection, connection.cursor() as cursor:
        yield cursor
