"""As whom a server runs. PostgreSQL refuses root and any user the machine has no name for.

Preferred is a user namespace: files stay ours, nothing is copied or made readable. Where that is refused (a chroot,
many containers), root runs the server as `nobody`.
"""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.stack.binaries import find_postgres

_SHIM = Path(__file__).with_name("shim.py")


@dataclass(frozen=True, slots=True)
class Identity:
    """Options for the shim, and the user that must own the server's files (None: the present one)."""

    options: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    def command(self, argv: list[str], *, death_signal: int) -> list[str]:
        """`argv`, run as this identity, receiving `death_signal` when the starting thread dies."""
        shim = [sys.executable, "-I", "-S", str(_SHIM), "--parent", str(os.getpid())]
        return [*shim, "--signal", str(int(death_signal)), *self.options, "--", *argv]

    def own(self, directory: Path) -> None:
        """Make this identity the owner of all of `directory`, when it is not."""
        uid, gid = self.owner or (os.geteuid(), os.getegid())
        if directory.stat().st_uid == uid:
            return
        try:
            for path in (*directory.rglob("*"), directory):  # itself last: it tells whether all is done
                os.chown(path, uid, gid, follow_symlinks=False)
        except PermissionError:
            raise ServiceUnavailable(
                f"{directory} belongs to another user (uid {directory.stat().st_uid}).",
                hint="Start the platform as the user who made it, or point VIDEOMOMENTS_HOME to another directory.",
            ) from None


OURSELVES = Identity()


@lru_cache(maxsize=1)
def unprivileged() -> Identity:
    """An identity that PostgreSQL accepts. Raises ServiceUnavailable when this machine allows none."""
    uid = os.geteuid()
    if uid != 0 and _name(uid):
        return OURSELVES
    inside = next((user.pw_uid for user in pwd.getpwall() if user.pw_name == "nobody"), None)
    inside = inside or next((user.pw_uid for user in pwd.getpwall() if user.pw_uid), None)
    if inside is not None:
        namespace = Identity(options=("--namespace", str(inside)))
        if _works(namespace):
            return namespace
        if uid == 0:
            gid = pwd.getpwuid(inside).pw_gid
            other = Identity(options=("--user", f"{inside}:{gid}"), owner=(inside, gid))
            if _works(other):
                return other
    who = "root" if uid == 0 else f"uid {uid}, which has no entry in /etc/passwd,"
    raise ServiceUnavailable(
        f"PostgreSQL does not run as {who} and this machine allows no user namespace.",
        hint="Run as a user with an entry in /etc/passwd, or set DATABASE_URL to a PostgreSQL that runs already.",
    )


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _works(identity: Identity) -> bool:
    """Whether this identity reaches and runs the very program that it is for."""
    command = identity.command([str(find_postgres().directory / "postgres"), "--version"], death_signal=9)
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
