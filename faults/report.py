"""What a run of the faults has planned, tried and seen, as the table of docs/faults.md. It calls nothing whole that
was not tried whole.
"""

import os
import platform as machine
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import psutil

from faults.inspection import Verdict
from faults.kinds import Fault
from videomoments_dagster.requests.stages import Stage

Injection = tuple[Fault, Stage | None]
_COLUMNS = (
    "fault",
    "planned",
    "tried",
    "recovered",
    "lost",
    "duplicated",
    "broken",
    "seconds to recover: median, worst",
)


def in_turn(faults: Sequence[Fault]) -> Iterator[Injection]:
    """One injection of each fault, then the second of each: what is cut short has tried every fault, and a part that
    falls again and again is not started again."""
    for turn in zip_longest(*([(fault, aim) for aim in fault.aims] for fault in faults)):
        yield from (each for each in turn if each is not None)


@dataclass
class Outcome:
    """`verdicts` on the injections that were tried, by fault. `trouble` is what went wrong with the run itself."""

    plan: Sequence[Injection]
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def add(self, fault: Fault, verdict: Verdict) -> None:
        self.verdicts.setdefault(fault.name, []).append(verdict)

    @property
    def every(self) -> list[Verdict]:
        return [verdict for each in self.verdicts.values() for verdict in each]

    @property
    def complete(self) -> bool:
        return len(self.every) == len(self.plan)

    @property
    def succeeded(self) -> bool:
        """All that was planned was tried, and every injection recovered."""
        return bool(self.plan) and self.complete and not self.trouble and all(v.recovered for v in self.every)

    def report(self, *, seed: int, seconds: float) -> str:
        """How much of the plan was tried, the machine, the table, and a line for each violation; in Markdown."""
        memory = psutil.virtual_memory().total / 1024**3
        ends = Counter(end for verdict in self.every for end in verdict.ends.values())
        told = ", ".join(f"{state}: {number}" for state, number in ends.most_common()) or "none"
        lines = [
            f"{'All ' if self.complete else '**Incomplete:** '}{len(self.every)} of {len(self.plan)} planned injections"
            f" were tried, in {seconds / 60:.0f} minutes; {sum(v.recovered for v in self.every)} recovered.",
            "",
            f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {machine.release()}, Python {machine.python_version()};"
            f" seed {seed}. Videos that ended {told}.",
            "",
            f"| {' | '.join(_COLUMNS)} |",
            f"|---|{'---:|' * (len(_COLUMNS) - 1)}",
        ]
        planned = Counter(fault.name for fault, _ in self.plan)
        lines += [self._row(name, number) for name, number in planned.items()]
        seen = [f"- {name}: {each}" for name, all_ in self.verdicts.items() for v in all_ for each in v.violations]
        seen += [f"- {each}" for each in self.trouble]
        return "\n".join([*lines, "", *(seen or ["Violations: none."])])

    def _row(self, name: str, planned: int) -> str:
        tried = self.verdicts.get(name, [])
        seconds = [verdict.seconds for verdict in tried]
        cells = (
            name,
            planned,
            len(tried),
            sum(verdict.recovered for verdict in tried),
            sum(bool(verdict.lost) for verdict in tried),
            sum(bool(verdict.duplicated and not verdict.lost) for verdict in tried),
            sum(bool(verdict.broken and not (verdict.lost or verdict.duplicated)) for verdict in tried),
            f"{statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else "not tried",
        )
        return f"| {' | '.join(map(str, cells))} |"
