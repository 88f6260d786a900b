"""`make faults`: the real stack with small videos, each fault at several moments, and what became of it all.

`python -m faults [--seed N] [--minutes N] [--write] [NAME...]`: only faults whose names hold one of the NAMEs;
`--write` renews the table in docs/faults.md. When interrupted it tells what it has seen so far.
"""

import argparse
import os
import platform as machine
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

import psutil

from faults.disk import may_mount, mount_small_disk
from faults.injecting import inject
from faults.inspection import Verdict
from faults.kinds import FAULTS, Fault
from faults.site import site
from videomoments_dagster.requests.stages import Stage

_DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "faults.md"
_MARK = "<!-- `make faults` writes what follows -->"
_DISK_BYTES = 64 * 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=30, help="no injection begins later than this")
    parser.add_argument("--keep", type=Path, help="directory to work in, kept")
    parser.add_argument("--write", action="store_true", help="renew the table in docs/faults.md")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.names or any(name in fault.name for name in options.names)]
    if not chosen:
        sys.exit(f"No fault is named so: there are {', '.join(fault.name for fault in FAULTS)}.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way all is stopped, and told
    directory = options.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    if may_mount():
        mount_small_disk(directory / "home" / "temp", _DISK_BYTES)
    else:
        chosen = [fault for fault in chosen if not fault.needs_disk]
        print("This kernel allows no mounts: no fault that needs a disk of its own is tried.")
    begun = time.monotonic()
    verdicts: dict[str, list[Verdict]] = {fault.name: [] for fault in chosen}
    with suppress(KeyboardInterrupt), site(directory) as started:
        for number, (fault, aim) in enumerate(_in_turn(chosen)):
            if time.monotonic() - begun > options.minutes * 60:
                break
            verdict = inject(started, fault, aim, f"v{number}", seed=options.seed)
            verdicts[fault.name].append(verdict)
            _tell(number, fault, aim, verdict)
    report = _report(verdicts, options.seed, time.monotonic() - begun)
    print(report)
    if options.write:
        text = _DOCUMENT.read_text().partition(_MARK)[0]
        _DOCUMENT.write_text(f"{text}{_MARK}\n\n{report}\n")
    if all(verdict.recovered for each in verdicts.values() for verdict in each):
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)  # but for the mounted disk, which ends with this process
        return
    sys.exit(f"What was seen is above; the logs are in {directory}/home/logs.")


def _report(verdicts: dict[str, list[Verdict]], seed: int, seconds: float) -> str:
    """The machine, the table, and a line for each violation; in Markdown."""
    memory = psutil.virtual_memory().total / 1024**3
    every = [verdict for each in verdicts.values() for verdict in each]
    ends = Counter(end for verdict in every for end in verdict.ends.values())
    lines = [
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {machine.release()}, Python {machine.python_version()};"
        f" seed {seed}; {len(every)} injections in {seconds / 60:.0f} minutes. Videos that ended"
        f" {', '.join(f'{state}: {number}' for state, number in ends.most_common())}.",
        "",
        "| fault | injections | recovered | lost | duplicated | seconds to recover: median, worst |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, each in verdicts.items():
        if each:
            seconds_each = [verdict.seconds for verdict in each]
            cells = (
                len(each),
                sum(verdict.recovered for verdict in each),
                sum(len(verdict.lost) for verdict in each),
                sum(len(verdict.duplicated) for verdict in each),
                f"{statistics.median(seconds_each):.1f}, {max(seconds_each):.1f}",
            )
            lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    seen = [f"- {name}: {violation}" for name, each in verdicts.items() for v in each for violation in v.violations]
    return "\n".join([*lines, "", *(seen or ["Violations: none."])])


def _in_turn(faults: Sequence[Fault]) -> Iterator[tuple[Fault, Stage | None]]:
    """One injection of each fault, then the second of each: a part that falls again and again is not started again."""
    for turn in zip_longest(*([(fault, aim) for aim in fault.aims] for fault in faults)):
        yield from (each for each in turn if each is not None)


def _tell(number: int, fault: Fault, aim: Stage | None, verdict: Verdict) -> None:
    ends = ", ".join(f"{video} {status}" for video, status in verdict.ends.items())
    again = f"; asked again: {verdict.asked_again}" if verdict.asked_again else ""
    last = f"; the last: {', '.join(verdict.last[:3])}" if verdict.last else ""
    print(f"{number:3} {fault.name}, {aim or 'any moment'}: {verdict.seconds:.1f} s; {ends}{again}{last}", flush=True)
    for violation in verdict.violations:
        print(f"    {violation}", flush=True)


if __name__ == "__main__":
    main()
