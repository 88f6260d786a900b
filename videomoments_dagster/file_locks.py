"""A lock that the kernel keeps for this process and ends with it: flock on a file, never shared with a forked child."""

import fcntl
import os
from pathlib import Path

_held: "set[FileLock]" = set()


class FileLock:
    """Opened, then taken; it excludes other threads as well as other processes.

    A fork would share it: the child would go on holding what its dead parent held. So a forked child lets go of all
    locks at once, without ending them for its parent; for the child, they are not held.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Raises OSError, among them FileNotFoundError when it may not `create` the file."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        _held.add(self)

    @property
    def is_held(self) -> bool:
        """False once it is released, and in a forked child."""
        return self in _held

    def take(self) -> None:
        """Waits until it is free."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def try_take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """End it, and close the file. Nothing happens when it is not held."""
        if self.is_held:
            _held.discard(self)
            os.close(self._descriptor)


def _let_go() -> None:
    for lock in _held:
        os.close(lock._descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
