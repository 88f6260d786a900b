"""The last step before a server's own program: take the identity it needs, tie its life to ours, become it.

Run by path as `python -I -S shim.py --parent PID --signal N [--namespace UID | --user UID:GID] -- PROGRAM ARGUMENTS`.
It is a program and not a preexec_fn because those deadlock in threaded parents. It imports the standard library only.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 28, 1 << 2
_CLONE_NEWUSER = 0x10000000
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="shim")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--namespace", type=int)
    parser.add_argument("--user")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    if options.namespace is not None:
        enter_namespace(options.namespace)
    elif options.user:
        become(*map(int, options.user.split(":")))
    if sys.platform == "linux":
        # after the change of identity, which would clear it; per parent THREAD, so the parent spawns from its main one
        _call("prctl", _PR_SET_PDEATHSIG, options.signal)
        if os.getppid() != options.parent:
            sys.exit("The process that started this one is gone.")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # a background shell, or nohup, may have handed down "ignore"
    os.execvp(options.program[0], options.program)  # noqa: S606  # becoming it is the purpose


def enter_namespace(uid: int) -> None:
    """Be `uid` inside a user namespace while files stay the present user's: no chown, nothing to make readable."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outside_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {outside_gid} 1")


def become(uid: int, gid: int) -> None:
    """Be another user, but keep root's right to search directories: a home directory may be closed to others (0700)."""
    _call("prctl", _PR_SET_KEEPCAPS, 1)
    with contextlib.suppress(OSError):  # PostgreSQL asks access(2), which forgets the right without this; some
        _call("prctl", _PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)  # containers forbid it
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _keep_search_right()


def _keep_search_right() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    held = (_Capabilities * 2)()
    _call("capget", header, held)
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):  # containers often grant only the second
        bit = 1 << capability
        if held[0].permitted & bit:
            kept = (_Capabilities * 2)()
            kept[0].effective = kept[0].permitted = kept[0].inheritable = bit
            _call("capset", header, kept)
            _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)
            return
    _call("capset", header, (_Capabilities * 2)())


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
