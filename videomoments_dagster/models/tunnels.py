"""The SSH tunnels of this process: opened on demand, shared by its threads, closed when idle, never by two processes.

`tunnels().open(route)` gives the local address of a remote model and has just seen it answer. See tunnel.py for what
carries the bytes and ssh.py for the connection.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videomoments_dagster.errors import LocalPortTaken, ModelNotConfigured, TunnelUnavailable
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.ssh import Login, Shared, SshConnection
from videomoments_dagster.models.tunnel import Tunnel
from videomoments_dagster.settings import Settings, get_settings


@dataclass(frozen=True, slots=True)
class Route:
    """From a local port (0: any) to `remote_host`:`remote_port` as the SSH host sees them.

    `ssh_user` "" is this process's user, `ssh_key_file` "" the SSH agent's keys; `asked_by` names the model in errors.
    """

    ssh_host: str
    ssh_port: int
    ssh_user: str
    ssh_key_file: str
    known_hosts: Path
    remote_host: str
    remote_port: int
    local_port: int = 0
    asked_by: str = ""

    @classmethod
    def of(cls, entry: ModelEntry, settings: Settings) -> "Route":
        """Raises ModelNotConfigured when neither the entry nor the settings name an SSH host."""
        entry = entry.with_settings(settings)
        if not entry.ssh_host:
            raise ModelNotConfigured(f"Model {entry.key!r} has no ssh_host.")
        return cls(
            entry.ssh_host,
            entry.ssh_port,
            entry.ssh_user,
            entry.ssh_key_file,
            settings.ssh_known_hosts,
            entry.remote_host,
            entry.remote_port,
            entry.local_port,
            entry.key,
        )

    @property
    def login(self) -> Login:
        return Login(self.ssh_host, self.ssh_port, self.ssh_user, self.ssh_key_file, self.known_hosts)


class TunnelPool:
    """One SSH connection for each login, one listener for each route. Any thread may open; a forked child starts
    afresh with connections of its own and leaves its parent's alone."""

    def __init__(self, idle_seconds: float = 300.0, timeout_seconds: float = 10.0) -> None:
        self._idle_seconds = idle_seconds
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._connections: dict[Login, SshConnection] = {}
        self._tunnels: dict[Route, Tunnel] = {}
        self.closed = False
        _pools.add(self)

    @contextmanager
    def open(self, route: Route) -> Iterator[tuple[str, int]]:
        """Host and port of the tunnel's local end, which stays open while this lasts and `idle_seconds` longer.

        The remote end has answered within the last second, so what goes wrong has its name: raises TunnelUnavailable,
        HostKeyRefused, LoginRefused, ForwardRefused, LocalPortTaken, ModelNotConfigured for an impossible host, or
        ModelUnavailable when the SSH host is well but the model does not accept connections. A drop later on resets
        what is in flight; the next connection to the same address goes over a new SSH connection.
        """
        with ExitStack() as stack:
            tunnel = self._taken_up(route, stack)
            while tunnel is None:
                Shared[None]()(lambda: self._make(route))  # not in this thread: an interrupt would leave half of one
                tunnel = self._taken_up(route, stack)
            tunnel.prove()
            yield tunnel.address

    def close(self) -> None:
        """End all tunnels, their threads and sockets; what is in flight is reset. Takes a second or two at most."""
        with self._lock:
            self.closed = True
            tunnels, connections = list(self._tunnels.values()), list(self._connections.values())
            self._tunnels.clear()
            self._connections.clear()
        _end(tunnels, connections)

    def _taken_up(self, route: Route, stack: ExitStack) -> Tunnel | None:
        """The route's tunnel, in use until the stack ends; None when there is none yet."""
        with self._lock:
            tunnel = self._tunnels.get(_key(route))
            if tunnel is not None:
                stack.enter_context(tunnel.in_use())
            return tunnel

    def _make(self, route: Route) -> None:
        with self._lock:
            former = self._former(route)
            ended = [self._let_go(former)] if former else []
        for tunnel, connection in ended:  # not under the lock: it takes its time
            _end([tunnel], [connection] if connection else [])
        with self._lock:
            if self.closed:
                raise TunnelUnavailable(f"The tunnels of this process are closed: {route.asked_by!r} came too late.")
            if _key(route) in self._tunnels:
                return
            connection = self._connections.get(route.login) or SshConnection(route.login, self._timeout_seconds)
            remote = (route.remote_host, route.remote_port)
            tunnel = Tunnel(connection, remote, route.local_port, route.asked_by, self._idle_seconds, self._forget)
            self._connections[route.login] = connection
            self._tunnels[_key(route)] = tunnel

    def _former(self, route: Route) -> Route | None:
        """The key of the tunnel that has the local port because the model's entry was another before. You hold the
        lock. Raises LocalPortTaken when it is another model's, TunnelUnavailable while it is in use."""
        taken = (key for key, tunnel in self._tunnels.items() if tunnel.address[1] == route.local_port)
        former = next(taken, _key(route))
        if former == _key(route):
            return None
        tunnel = self._tunnels[former]
        if tunnel.asked_by != route.asked_by:
            raise LocalPortTaken(
                f"Model {route.asked_by!r} wants local port {route.local_port} for its tunnel, "
                f"but that of model {tunnel.asked_by!r} has it."
            )
        if tunnel.is_in_use:
            raise TunnelUnavailable(
                f"Model {route.asked_by!r} still has requests on local port {route.local_port} that were begun before "
                "it was changed.",
                hint="It is tried again by itself; with local_port=0 it would not have to wait.",
            )
        return former

    def _let_go(self, key: Route) -> tuple[Tunnel, SshConnection | None]:
        """Forget a tunnel; with the last one of a login goes its connection. You hold the lock."""
        tunnel = self._tunnels.pop(key)
        if any(other.connection is tunnel.connection for other in self._tunnels.values()):
            return tunnel, None
        return tunnel, self._connections.pop(key.login)

    def _forget(self, idle: Tunnel) -> bool:
        """Let go of a tunnel unless it was taken up again just now."""
        with self._lock:
            key = next((key for key, tunnel in self._tunnels.items() if tunnel is idle), None)
            if key is None or not idle.is_idle:
                return False
            _, connection = self._let_go(key)
        if connection is not None:
            connection.close()
        return True

    def _start_afresh(self) -> None:
        """In a forked child: the threads are gone and any lock may be held, so nothing of the parent's is touched but
        this process's copies of its sockets."""
        _abandoned.append((self._tunnels, self._connections))
        for tunnel in self._tunnels.values():
            for each in tunnel.sockets():
                each.close()
        for connection in self._connections.values():
            if connection.socket is not None:
                connection.socket.close()
        self._lock = threading.Lock()
        self._tunnels, self._connections = {}, {}


def _key(route: Route) -> Route:
    """Models that are reached alike share a tunnel."""
    return replace(route, asked_by="")


def _end(tunnels: Iterable[Tunnel], connections: Iterable[SshConnection]) -> None:
    for connection in connections:
        connection.close()
    for tunnel in tunnels:
        tunnel.close()


def tunnels() -> TunnelPool:
    """The pool of this process."""
    global _pool
    with _pool_lock:
        if _pool is None or _pool.closed:
            _pool = TunnelPool(get_settings().tunnel_idle_seconds)
        return _pool


_pools: "weakref.WeakSet[TunnelPool]" = weakref.WeakSet()
_abandoned: list[Any] = []
"""What a fork left behind. It is kept, because collecting it would take locks that nobody will release."""
_pool: TunnelPool | None = None
_pool_lock = threading.Lock()


def _after_fork() -> None:
    global _pool_lock
    _pool_lock = threading.Lock()
    for pool in list(_pools):
        pool._start_afresh()


def _at_exit() -> None:
    for pool in list(_pools):
        pool.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
