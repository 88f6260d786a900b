"""`make faults`: the real stack with small videos, each fault at several moments, and what became of it all.

`python -m faults [--seed N] [--minutes N] [--write] [NAME...]`: only faults whose names hold one of the NAMEs;
`--write` renews the table in docs/faults.md. When interrupted it tells what it has seen so far. The exit code is 0
only if all that was planned was tried, and everything recovered.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from faults.disk import may_mount, mount_small_disk
from faults.injecting import inject
from faults.inspection import Verdict
from faults.kinds import FAULTS
from faults.report import Injection, Outcome, in_turn
from faults.site import Site, site

_DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "faults.md"
_MARK = "<!-- `make faults` writes what follows -->"
_DISK_BYTES = 64 * 1024 * 1024


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60, help="no injection begins later than this; 0: none")
    parser.add_argument("--keep", type=Path, help="directory to work in, kept")
    parser.add_argument("--write", action="store_true", help="renew the table in docs/faults.md")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    if options.write and options.names:
        parser.error("--write is for all faults: a table of some of them would replace that of all.")
    chosen = [fault for fault in FAULTS if not options.names or any(name in fault.name for name in options.names)]
    if not chosen:
        sys.exit(f"No fault is named so: there are {', '.join(fault.name for fault in FAULTS)}.")
    directory = options.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    outcome, begun = Outcome(list(in_turn(chosen))), time.monotonic()
    if options.minutes > 0:
        _try_all(directory, outcome, options.seed, end=begun + options.minutes * 60)
    report = outcome.report(seed=options.seed, seconds=time.monotonic() - begun)
    print(report)
    if options.write and outcome.every:
        text = _DOCUMENT.read_text().partition(_MARK)[0]
        _DOCUMENT.write_text(f"{text}{_MARK}\n\n{report}\n")
    if outcome.succeeded:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)  # but for the mounted disk, which ends with this process
        return
    sys.exit(f"Not all that was planned was tried and recovered; the logs are in {directory}/home/logs.")


def _try_all(directory: Path, outcome: Outcome, seed: int, *, end: float) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way all is stopped, and told
    if disk := may_mount():
        mount_small_disk(directory / "home" / "temp", _DISK_BYTES)
    else:
        outcome.trouble.append("This kernel allows no mounts: no fault that needs a disk of its own was tried.")
    try:
        with site(directory) as started:
            for number, (fault, aim) in enumerate(outcome.plan):
                if time.monotonic() > end:
                    break
                if disk or not fault.needs_disk:
                    verdict = _try(started, (fault, aim), f"v{number}", seed)
                    outcome.add(fault, verdict)
                    _tell(f"v{number}, {number + 1} of {len(outcome.plan)}", (fault, aim), verdict)
    except KeyboardInterrupt:
        outcome.trouble.append("It was interrupted.")
    except Exception as error:  # what was seen until then is told all the same
        traceback.print_exc()
        outcome.trouble.append(f"The site did not start, or did not stop: {_told(error)}")


def _try(site: Site, injection: Injection, name: str, seed: int) -> Verdict:
    try:
        return inject(site, *injection, name, seed=seed)
    except Exception as error:  # a finding, too, and the others are tried all the same
        traceback.print_exc()
        return Verdict(broken=[f"{name}: the injection itself failed: {_told(error)}"])


def _tell(where: str, injection: Injection, verdict: Verdict) -> None:
    fault, aim = injection
    ends = ", ".join(f"{video} {status}" for video, status in verdict.ends.items())
    again = f"; asked again: {verdict.asked_again}" if verdict.asked_again else ""
    last = f"; the last: {', '.join(verdict.last[:3])}" if verdict.last else ""
    print(f"{where}: {fault.name}, {aim or 'any moment'}: {verdict.seconds:.1f} s; {ends}{again}{last}", flush=True)
    for violation in verdict.violations:
        print(f"    {violation}", flush=True)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


if __name__ == "__main__":
    main()
