"""Wall and CPU seconds of a block with the child processes it waits for, CPU of others, and how a row is printed."""

import resource
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil


@dataclass
class Cost:
    """Seconds. `cpu` counts this process and its ended children, not PostgreSQL and Redis."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    cost, wall, cpu = Cost(), time.perf_counter(), _cpu()
    yield cost
    cost.wall, cost.cpu = time.perf_counter() - wall, _cpu() - cpu


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))


def tree(roots: Iterable[int]) -> list[psutil.Process]:
    """These processes and all below them."""
    return [each for pid in roots for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]


def tree_cpu(roots: Iterable[int]) -> float:
    """CPU seconds so far of these processes and all below them, of those that have ended there too."""
    return sum(sum(each.cpu_times()[:4]) for each in tree(roots))


def row(name: str, *cells: str) -> None:
    print(f"{name:<54}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
