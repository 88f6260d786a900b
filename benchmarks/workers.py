"""What it costs to start and to execute a run: the platform's workers against a bare Redis worker, the limit.

Both execute the same no-op graph on the same PostgreSQL with the same pools. The platform's way is whole: message,
ingest sensor, Dagster's queue, Celery, lease, and the sensors that record the end.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import dagster as dg

from benchmarks.bare_worker import BareWorker
from benchmarks.latency import FIRST_STEP_AIM_SECONDS
from benchmarks.measuring import row, tree, tree_cpu
from benchmarks.noop_platform import NoopPlatform
from benchmarks.noop_runs import event_time, finished_runs, last_run, queued_runs, widen_pools
from benchmarks.services import Services, services
from videomoments_dagster.stack.child import Child

WARMING, SINGLES, QUEUED = 6, 5, 50
THROUGHPUT_AIM = 0.8
_PAUSE_SECONDS = (4.0, 8.0)  # a tick of the ingest sensor waits 4 s: any phase of it may be met
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Drain:
    """How a set of workers emptied the queue. CPU in seconds a run."""

    runs_a_minute: float
    worker_cpu: float
    dagster_cpu: float
    postgres_cpu: float


def main() -> None:
    print("\nWorkers: a no-op run of the whole graph, by the platform's workers and by a bare Redis worker (the limit)")
    with services() as running, dg.DagsterInstance.get() as instance:
        widen_pools(instance)
        _first_steps(running, instance)
        _drains(running, instance)


def _first_steps(running: Services, instance: dg.DagsterInstance) -> None:
    with BareWorker(running, instance, processes=2) as bare:
        _warm_up(instance, bare.submit)
        limit = _waits(instance, bare.submit, (0, 0))
    with NoopPlatform(running) as platform, platform.worker(2):
        _warm_up(instance, platform.submit)
        idle = _waits(instance, platform.submit, _PAUSE_SECONDS)
        busy = _waits(instance, platform.submit, (0, 0))
    row(f"Submit to first step (medians of {SINGLES}, LPUSH or XADD to STEP_START)", "median s", "worst s", "ratio")
    names = ("bare Redis worker (baseline)", "platform, idle before", "platform, a run has just ended")
    for name, waits in zip(names, (limit, idle, busy), strict=True):
        ratio = median(waits) / median(limit)
        row(f"  {name}", f"{median(waits):.2f}", f"{max(waits):.2f}", f"{ratio:.1f}")
    print(f"  aim: under {FIRST_STEP_AIM_SECONDS} s")


def _waits(instance: dg.DagsterInstance, submit: Callable[[], float], pause: tuple[float, float]) -> list[float]:
    waits = []
    for _ in range(SINGLES):
        time.sleep(random.uniform(*pause))
        before = last_run(instance)
        sent = submit()
        [run] = finished_runs(instance, 1, after=before)
        waits.append(event_time(instance, run, dg.DagsterEventType.STEP_START) - sent)
    return waits


def _drains(running: Services, instance: dg.DagsterInstance) -> None:
    print(
        f"{QUEUED} queued runs: they wait while warm workers are suspended; counted from there on to the last end.\n"
        "CPU seconds a run: workers with their children; Dagster's daemon and code server; PostgreSQL"
    )
    row("", "runs/min", "ratio", "CPU workers", "CPU Dagster", "CPU Postgres")
    bare = {}
    for processes in (1, 2):
        with BareWorker(running, instance, processes=processes) as worker:
            bare[processes] = _drain(running, instance, worker.submit, [worker.child])
    limit = bare[2]
    _print("bare Redis worker, 1 process", bare[1], limit)
    _print("bare Redis worker, 2 processes (baseline)", limit, limit)
    measured: dict[tuple[int, ...], Drain] = {}
    memory: list[list[Any]] = []
    for runs, crews in ((2, [(2,)]), (10, [(1,), (1, 1), (2,)])):
        with NoopPlatform(running, max_concurrent_runs=runs) as platform:
            for sizes in crews:
                with ExitStack() as stack:
                    workers = [stack.enter_context(platform.worker(processes)) for processes in sizes]
                    drain = _drain(running, instance, platform.submit, workers, platform.dagster)
                    each = f"{len(sizes)} worker{'s'[: len(sizes) - 1]} of {sizes[0]}"
                    _print(f"platform, {each}, max_concurrent_runs {runs}", drain, limit)
                    memory = [[process.memory_full_info() for process in tree([pid])] for pid in _pids(workers)]
                measured[runs, *sizes] = drain
    print(f"  aim: {THROUGHPUT_AIM} of the bare worker")
    pair = measured[10, 1, 1].runs_a_minute / measured[10, 1].runs_a_minute
    row("platform, 2 workers against 1", "", f"{pair:.2f}")
    row("bare, 2 processes against 1", "", f"{limit.runs_a_minute / bare[1].runs_a_minute:.2f}")
    _tell_memory(memory[0])


def _drain(
    running: Services,
    instance: dg.DagsterInstance,
    submit: Callable[[], float],
    workers: Sequence[Child],
    dagster: Sequence[Child] = (),
) -> Drain:
    _warm_up(instance, submit)
    groups = [_pids(workers), _pids(dagster), _pids([running.postgres])]
    before = last_run(instance)
    with _suspended(groups[0]):
        for _ in range(QUEUED):
            submit()
        if dagster:
            queued_runs(instance, QUEUED, after=before)
    begun, used = time.time(), [tree_cpu(group) for group in groups]
    runs = finished_runs(instance, QUEUED, after=before)
    cpu = [(tree_cpu(group) - until) / QUEUED for group, until in zip(groups, used, strict=True)]
    wall = max(run.end_time or 0 for run in runs) - begun
    return Drain(QUEUED / wall * 60, *cpu)


def _warm_up(instance: dg.DagsterInstance, submit: Callable[[], float]) -> None:
    """So many that every process has executed some."""
    before = last_run(instance)
    for _ in range(WARMING):
        submit()
    finished_runs(instance, WARMING, after=before)


def _pids(children: Sequence[Child]) -> list[int]:
    return [child.process.pid for child in children if child.process]


@contextmanager
def _suspended(roots: Sequence[int]) -> Iterator[None]:
    processes = tree(roots)
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _tell_memory(memory: Sequence[Any]) -> None:
    """psutil's figures of the process that forks, then of those that execute runs."""
    parent, *children = memory
    child = max(children, key=lambda info: info.uss)
    row(
        f"Memory of a worker of {len(children)} after {WARMING + QUEUED} runs (PSS divides what is shared)",
        "PSS MiB",
        "USS MiB",
    )
    row("  the process that forks", f"{parent.pss / _MIB:.0f}", f"{parent.uss / _MIB:.0f}")
    row("  the larger of those that execute runs", f"{child.pss / _MIB:.0f}", f"{child.uss / _MIB:.0f}")
    row("  together", f"{sum(info.pss for info in memory) / _MIB:.0f}")


def _print(name: str, drain: Drain, limit: Drain) -> None:
    cpu = (drain.worker_cpu, drain.dagster_cpu, drain.postgres_cpu)
    ratio = drain.runs_a_minute / limit.runs_a_minute
    row(f"  {name}", f"{drain.runs_a_minute:.0f}", f"{ratio:.2f}", *(f"{seconds:.2f}" for seconds in cpu))
