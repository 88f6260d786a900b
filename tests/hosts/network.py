"""Several hosts on one machine: each has its own network (a Linux network namespace), its own name, and a cable to a
switch, which can be pulled out without either end noticing. Made with the kernel's own interfaces; needs root, which a
user namespace gives too. Nothing of it outlives this process.
"""

import ctypes
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from pyroute2 import IPRoute

from videomoments_dagster.stack.identity import OURSELVES
from videomoments_dagster.stack.process_table import kill_all

_CLONE_NEWUTS, _CLONE_NEWNET = 0x0400_0000, 0x4000_0000  # linux/sched.h
_KINDS = {"net": _CLONE_NEWNET, "uts": _CLONE_NEWUTS}
_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """A network and a host name of their own. The kernel keeps them while a descriptor or a process does."""

    def __init__(self, name: str) -> None:
        self._descriptors: dict[str, int] = {}
        maker = threading.Thread(target=self._make, args=(name,))  # namespaces are left by the thread's end
        maker.start()
        maker.join()
        if not self._descriptors:
            raise PermissionError(errno.EPERM, "This process may not make network namespaces")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and the sockets, threads and processes it makes, belong there inside the block."""
        before = _own()
        try:
            _enter(self._descriptors)
            yield
        finally:
            _enter(before)
            _close(before)

    @property
    def descriptor(self) -> int:
        """Of the network, for the kernel's network interface."""
        return self._descriptors["net"]

    def processes(self) -> list[psutil.Process]:
        """Every live process that belongs there, whoever started it; never this one."""
        here, found = os.fstat(self.descriptor).st_ino, []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.NoSuchProcess):
                inside = Path(f"/proc/{process.pid}/ns/net").stat().st_ino == here
                if inside and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        _close(self._descriptors)

    def _make(self, name: str) -> None:
        with suppress(PermissionError):
            _call("unshare", _CLONE_NEWNET | _CLONE_NEWUTS)
            _call("sethostname", name.encode(), len(name))
            with IPRoute() as network:
                network.link("set", index=_index(network, "lo"), state="up")
            self._descriptors = _own()


class Host:
    """One host of a Network."""

    def __init__(self, network: "Network", name: str, address: str) -> None:
        self.name, self.address = name, address
        self.namespaces = Namespaces(name)
        self._network = network
        self._started: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self.namespaces.entered():
            yield

    def start(self, argv: list[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Run a program on this host. It is killed when the calling thread ends: call it from the main one."""
        with self.entered(), log.open("ab") as output:
            process = subprocess.Popen(
                OURSELVES.command(argv, death_signal=9),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def unplug(self) -> None:
        """From now on packets from and to this host vanish. Its connections stay as they are, and nobody is told."""
        self._network.connect(self.name, False)

    def plug(self) -> None:
        self._network.connect(self.name, True)

    def kill(self) -> None:
        """As when its power goes: no packet leaves it any more, and all its processes are gone at once."""
        self.unplug()
        while processes := self.namespaces.processes():  # one may have been forking another
            kill_all(processes)
        for process in self._started:
            process.wait()


class Network:
    """Hosts in one subnet, 10.77.0.0/24, that only they can see. `close` ends all that runs on them."""

    def __init__(self, *names: str) -> None:
        """Raises PermissionError when this process may not make namespaces."""
        with ExitStack() as stack:
            self._switch = Namespaces("switch")
            stack.callback(self._switch.close)
            with self._switch.entered(), IPRoute() as network:
                network.link("add", ifname="bridge", kind="bridge")
                self._bridge = _index(network, "bridge")
                network.link("set", index=self._bridge, state="up")
            self.hosts: list[Host] = []
            for number, name in enumerate(names, start=1):
                self.hosts.append(Host(self, name, f"10.77.0.{number}"))
                stack.callback(self.hosts[-1].namespaces.close)
                stack.callback(self.hosts[-1].kill)
                self._lay_cable(self.hosts[-1])
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def connect(self, host: str, connected: bool) -> None:
        """Put the host's cable into the switch, or take it out."""
        with self._switch.entered(), IPRoute() as network:
            network.link("set", index=_index(network, host), master=self._bridge if connected else 0)

    def _lay_cable(self, host: Host) -> None:
        with self._switch.entered(), IPRoute() as network:
            network.link(
                "add",
                ifname=host.name,
                kind="veth",
                peer={"ifname": "eth0", "net_ns_fd": host.namespaces.descriptor},
            )
            network.link("set", index=_index(network, host.name), state="up", master=self._bridge)
        with host.entered(), IPRoute() as network:
            card = _index(network, "eth0")
            network.addr("add", index=card, address=host.address, prefixlen=24)
            network.link("set", index=card, state="up")


def _index(network: IPRoute, name: str) -> int:
    [index] = network.link_lookup(ifname=name)
    return index


def _own() -> dict[str, int]:
    return {kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _KINDS}


def _enter(descriptors: Mapping[str, int]) -> None:
    for kind, descriptor in descriptors.items():
        _call("setns", descriptor, _KINDS[kind])


def _close(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":  # PROGRAM ARGUMENTS: become it, away from the network that only the machine's root may enter
    _call("unshare", _CLONE_NEWNET | _CLONE_NEWUTS)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606
