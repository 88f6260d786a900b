"""What a new video costs when the instance holds many already. See synthetic.py for what those are.

A message waits for the sensor daemon's next tick and a run for the queue's next look, up to some seconds by chance.
What grows is the work in between: it is measured without those waits.
"""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import median

import dagster as dg

from benchmarks.measuring import row, tree_cpu
from benchmarks.noop_platform import NoopPlatform
from benchmarks.noop_runs import event_time, finished_runs, last_run, widen_pools
from benchmarks.services import Services, services
from benchmarks.synthetic import fill
from videomoments_dagster.stack.child import Child

PARTITIONS = (100, 1_000, 10_000, 50_000)
FLATNESS, FLAT_UP_TO = 0.2, 10_000
_WARMING, _VIDEOS, _IDLE_SECONDS = 4, 7, 6


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a new video, in seconds. `work` is tick and launch together, `first_step` has the waits too."""

    tick: float
    launch: float
    work: float
    first_step: float


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds a video; `idle` is the part of a core that Dagster's processes use when nothing happens."""

    dagster: float
    postgres: float
    idle: float


def main() -> None:
    print(
        f"\nGrowth: a new video (medians of {_VIDEOS} in a row) in an instance of so many; the others are synthetic:\n"
        "each has a finished run, its tags, eight materializations and its request, copied from a real run.\n"
        "  tick: the ingest sensor's, from the message on; launch: from leaving the queue to the first step\n"
        "  CPU a video: daemon and code server beyond their idle use; PostgreSQL, the run's own queries too"
    )
    row("partitions", "tick s", "launch s", "ratio", "first step s", "CPU Dagster", "CPU Postgres", "ratio", "idle")
    with services() as running, dg.DagsterInstance.get() as instance, NoopPlatform(running) as platform:
        widen_pools(instance)
        with platform.worker(2):
            template = [_submit(instance, platform)[1] for _ in range(_WARMING)][-1]
            there, bases = 0, None
            for partitions in PARTITIONS:
                fill(instance, template.dagster_run, there + 1, partitions)
                there = partitions
                measured = _measure(running, instance, platform)
                bases = bases or measured
                _print(partitions, *measured, *bases)
    print(f"  aim: flat within {FLATNESS:.0%} up to {FLAT_UP_TO:,}")


def _measure(running: Services, instance: dg.DagsterInstance, platform: NoopPlatform) -> tuple[Figures, Cpu]:
    before = _cpu(platform.dagster)
    time.sleep(_IDLE_SECONDS)
    idle = (_cpu(platform.dagster) - before) / _IDLE_SECONDS
    begun, dagster, postgres = time.monotonic(), _cpu(platform.dagster), _cpu([running.postgres])
    videos = [_figures(instance, *_submit(instance, platform)) for _ in range(_VIDEOS)]
    wall = time.monotonic() - begun
    cpu = Cpu(
        (_cpu(platform.dagster) - dagster - idle * wall) / _VIDEOS,
        (_cpu([running.postgres]) - postgres) / _VIDEOS,
        idle,
    )
    return Figures(*(median(column) for column in zip(*map(astuple, videos), strict=True))), cpu


def _submit(instance: dg.DagsterInstance, platform: NoopPlatform) -> tuple[float, dg.RunRecord]:
    """When the message was sent, and the run when it has ended."""
    before = last_run(instance)
    sent = platform.submit()
    return sent, finished_runs(instance, 1, after=before)[0]


def _figures(instance: dg.DagsterInstance, sent: float, run: dg.RunRecord) -> Figures:
    assert instance.schedule_storage
    [tick] = instance.schedule_storage.get_ticks_by_ids([int(run.dagster_run.tags["dagster/tick"])])
    assert tick.end_timestamp
    first_step = event_time(instance, run, dg.DagsterEventType.STEP_START)
    ticked = tick.end_timestamp - max(sent, tick.timestamp)
    launched = first_step - event_time(instance, run, dg.DagsterEventType.PIPELINE_STARTING)
    return Figures(ticked, launched, ticked + launched, first_step - sent)


def _cpu(children: Sequence[Child]) -> float:
    return tree_cpu(child.process.pid for child in children if child.process)


def _print(partitions: int, figures: Figures, cpu: Cpu, base: Figures, base_cpu: Cpu) -> None:
    row(
        f"{partitions:,}",
        f"{figures.tick:.2f}",
        f"{figures.launch:.2f}",
        f"{figures.work / base.work:.2f}",
        f"{figures.first_step:.2f}",
        f"{cpu.dagster:.2f}",
        f"{cpu.postgres:.2f}",
        f"{(cpu.dagster + cpu.postgres) / (base_cpu.dagster + base_cpu.postgres):.2f}",
        f"{cpu.idle:.1%}",
    )
