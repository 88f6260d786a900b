"""What runs on this machine, as far as the platform must know: who holds a directory, and what a dead supervisor left.

A process that nobody reaps (a zombie) counts as gone: `kill(pid, 0)` would call it alive for ever.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "VIDEOMOMENTS_SUPERVISED"
"""Every process of a platform carries this variable, with the platform's home, and hands it to its own children."""

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def holders(directory: Path) -> list[psutil.Process]:
    """Live processes whose working directory is `directory`: a PostgreSQL server and each of its backends."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except _GONE:
            continue
    return found


def marked(home: Path) -> list[psutil.Process]:
    """Live processes that belong to the platform in `home`, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except _GONE:
            continue
    return found


def kill_all(processes: Iterable[psutil.Process]) -> int:
    """Kill and wait for the end. Returns how many there were."""
    alive = list(processes)
    for process in alive:
        with suppress(*_GONE):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    return len(alive)


def stop_all(processes: Iterable[psutil.Process], *, grace_seconds: float) -> int:
    """Terminate, wait, then kill. Returns how many there were."""
    alive = list(processes)
    for process in alive:
        with suppress(*_GONE):
            process.terminate()
    _, left = psutil.wait_procs(alive, timeout=grace_seconds)
    kill_all(left)
    return len(alive)
