"""What runs on this machine, as far as the platform must know: who holds a directory, and what a dead supervisor left.

A process that nobody reaps (a zombie) counts as gone: `kill(pid, 0)` would call it alive for ever.
"""

import os
import select
import time
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
    real = str(directory.resolve())
    for process in psutil.process_iter():
        try:
            if process.cwd() == real and process.status() != psutil.STATUS_ZOMBIE:
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


def wait_gone(processes: Iterable[psutil.Process], *, timeout_seconds: float) -> list[psutil.Process]:
    """Wait for processes that need not be our children to end. Returns those that did not."""
    deadline = time.monotonic() + timeout_seconds
    left = []
    for process in processes:
        seconds = max(0.0, deadline - time.monotonic())
        if not (
            _wait_by_descriptor(process, seconds) if hasattr(os, "pidfd_open") else _wait_by_looking(process, seconds)
        ):
            left.append(process)
    return left


def kill_all(processes: Iterable[psutil.Process]) -> int:
    """Kill and wait for the end. Returns how many there were."""
    alive = list(processes)
    for process in alive:
        with suppress(*_GONE):
            process.kill()
    wait_gone(alive, timeout_seconds=5)
    return len(alive)


def stop_all(processes: Iterable[psutil.Process], *, grace_seconds: float) -> int:
    """Terminate, wait, then kill. Returns how many there were."""
    alive = list(processes)
    for process in alive:
        with suppress(*_GONE):
            process.terminate()
    kill_all(wait_gone(alive, timeout_seconds=grace_seconds))
    return len(alive)


def _wait_by_descriptor(process: psutil.Process, seconds: float) -> bool:
    """A process descriptor is readable once its process has ended, even when nobody reaps it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not process.is_running() or bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def _wait_by_looking(process: psutil.Process, seconds: float) -> bool:
    with suppress(psutil.TimeoutExpired):
        process.wait(seconds)
        return True
    return process.status() == psutil.STATUS_ZOMBIE
