"""A child for test_processes.py that does what decoders do on a bad day."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

from videomoments_dagster.errors import NotAVideo
from videomoments_dagster.processes import Progress, serve_child


def count(to: int, on_progress: Progress) -> dict[str, int]:
    for done in range(to):
        on_progress((done + 1) / to)
    return {"counted": to}


def noisy() -> str:
    os.write(1, b'{"result": "dirty"}\n')
    sys.stdout.write("plain noise\n")
    return "clean"


def refuse() -> None:
    raise NotAVideo("talk.mp4 is a cake recipe.", hint="Bake it.")


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def segfault() -> None:
    ctypes.string_at(0)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def complain() -> None:
    os.write(2, b"[mov] moov atom not found in https://host/a.mp4?token=canary\n")
    os._exit(3)


def leave() -> None:
    os._exit(3)


def allocate(size_bytes: int) -> int:
    return len(bytearray(size_bytes))


def hang(pids: str) -> None:
    grandchild = subprocess.Popen(["sleep", "600"])
    Path(pids).write_text(f"{os.getpid()} {grandchild.pid}")
    signal.pause()


def report_then_hang(pids: str, on_progress: Progress) -> None:
    Path(pids).write_text(str(os.getpid()))
    on_progress(0.5)
    signal.pause()


if __name__ == "__main__":
    operations = (
        be_killed,
        count,
        noisy,
        refuse,
        full_disk,
        segfault,
        complain,
        leave,
        allocate,
        hang,
        report_then_hang,
    )
    serve_child({f.__name__: f for f in operations})
