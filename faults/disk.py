"""A small disk of its own for a directory: a tmpfs in a mount namespace that only this process and its children see."""

import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from videomoments_dagster.stack.identity import Identity

_CLONE_NEWNS = 0x0002_0000  # linux/sched.h
_MS_REC, _MS_PRIVATE = 0x4000, 0x4_0000  # linux/mount.h
_INSIDE = "FAULTS_IN_USER_NAMESPACE"
_libc = ctypes.CDLL(None, use_errno=True)


def may_mount() -> bool:
    """Give this process mounts of its own; to be asked before it has threads. Who is not root becomes it in a user
    namespace and starts the program again there. False where the kernel allows neither."""
    with suppress(PermissionError):
        own_mounts()
        return True
    identity = Identity(options=("--namespace", "0"))
    if _INSIDE in os.environ or subprocess.run(identity.command(["true"], death_signal=9), check=False).returncode:
        return False
    again = identity.command([sys.executable, "-m", "faults", *sys.argv[1:]], death_signal=9)
    sys.exit(subprocess.run(again, env={**os.environ, _INSIDE: "1"}, check=False).returncode)


def own_mounts() -> None:
    """Give this thread, and the threads and processes it starts, mounts of their own. Raises PermissionError."""
    _call("unshare", _CLONE_NEWNS)
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def mount_small_disk(directory: Path, size_bytes: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    _call("mount", b"tmpfs", str(directory).encode(), b"tmpfs", 0, f"size={size_bytes},mode=700".encode())


def fill(directory: Path) -> Path:
    """Take all that is free in the directory's file system, while others write there too; the file that takes it."""
    filler = directory / "filler"
    with filler.open("wb") as file:
        while free := os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize:
            with suppress(OSError):  # somebody was faster
                os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + free)
    return filler


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
