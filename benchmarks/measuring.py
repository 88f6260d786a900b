"""Wall and CPU seconds of a block with the child processes it waits for, and how a row is printed."""

import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


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


def row(name: str, *cells: str) -> None:
    print(f"{name:<58}" + "".join(f"{cell:>15}" for cell in cells), flush=True)


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
