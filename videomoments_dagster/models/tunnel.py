"""One tunnel: a listener on loopback whose connections are carried to one remote address over an SSH connection.

Two threads a connection, one for each direction, and one that accepts. Half-closed connections stay half-closed; a
connection that the SSH side loses is reset, so that no cut answer looks like a whole one.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from videomoments_dagster.errors import LocalPortTaken, ModelError
from videomoments_dagster.models.ssh import Shared, SshConnection, dropped, hang_up

if TYPE_CHECKING:
    import paramiko

_CHUNK_BYTES = 64 * 1024
_PROVED_SECONDS = 1.0
_NEVER = float("-inf")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Tunnel:
    """`on_idle` is asked when nothing has used the tunnel for `idle_seconds`; if it says yes, the tunnel ends."""

    def __init__(
        self,
        connection: SshConnection,
        remote: tuple[str, int],
        local_port: int,
        asked_by: str,
        idle_seconds: float,
        on_idle: Callable[["Tunnel"], bool],
    ) -> None:
        self.connection = connection
        self.asked_by = asked_by
        self._remote = remote
        self._idle_seconds = idle_seconds
        self._on_idle = on_idle
        self._listener = _listen(local_port, asked_by)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._wake, self._woken = socket.socketpair()
        self._relays: set[Relay] = set()
        self._users: set[object] = set()
        self._used_at = time.monotonic()
        self._proved_at = _NEVER
        self._proving = Shared[None]()
        self._acceptor = threading.Thread(target=self._run, name=f"tunnel-{self.address[1]}", daemon=True)
        self._acceptor.start()

    @property
    def is_in_use(self) -> bool:
        return bool(self._users)

    @property
    def is_idle(self) -> bool:
        return self._idle_at() <= time.monotonic()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The tunnel stays while this lasts, however silent it is."""
        user = object()
        try:
            self._users.add(user)  # in here, or an interrupt just after it would leave the tunnel in use for ever
            yield
        finally:
            self._users.discard(user)
            self._used_at = time.monotonic()

    def prove(self) -> None:
        """Returns when the remote end has accepted a connection just now, or sent something in the last second.
        Raises what SshConnection.open_channel raises."""
        if not self.connection.is_up or time.monotonic() - self._proved_at > _PROVED_SECONDS:
            self._proving(lambda: hang_up(self._open_channel()))

    def close(self) -> None:
        """Stop listening and reset what is still connected. Returns when the threads have ended, after 1 s at most."""
        deadline = time.monotonic() + 1.0
        self._woken.close()
        self._stop()
        self._acceptor.join(max(0.0, deadline - time.monotonic()))
        self._stop()  # what it has still accepted
        for relay in self._open_relays():
            relay.join(deadline)

    def sockets(self) -> list[socket.socket]:
        """What a forked child holds a copy of."""
        return [self._listener, self._wake, self._woken, *(relay.client for relay in list(self._relays))]

    def _run(self) -> None:
        """Accept until the tunnel is closed or idle; a half-closed connection that has gone silent goes too."""
        while True:
            ready = wait([self._listener, self._wake], timeout=max(0.0, self._idle_at() - time.monotonic()))
            if self._wake in ready:
                break
            if self._listener in ready:
                self._accept()
            for relay in self._open_relays():
                if relay.is_half_closed and time.monotonic() - relay.moved_at > self._idle_seconds:
                    relay.abort()
            if self.is_idle and self._on_idle(self):
                self._listener.close()  # before those who are connected are let go: nobody gets in behind them
                self._stop()
                break
        for each in (self._listener, self._wake, self._woken):
            each.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # out of file descriptors: the connection waits until there are some
            wait([self._wake], timeout=0.1)
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relay = Relay(client, self._open_channel, self._heard, self._relays.discard)
        self._relays.add(relay)
        try:
            relay.start()
        except RuntimeError:  # out of threads
            relay.abort()
            relay.end()

    def _open_channel(self) -> "paramiko.Channel":
        try:
            channel = self.connection.open_channel(*self._remote)
        except ModelError:
            self._proved_at = _NEVER
            raise
        self._heard()
        return channel

    def _heard(self) -> None:
        self._proved_at = self._used_at = time.monotonic()

    def _idle_at(self) -> float:
        """When the tunnel will be idle if nothing happens until then."""
        used = (
            time.monotonic() if self._users else max([self._used_at, *(each.moved_at for each in self._open_relays())])
        )
        return used + self._idle_seconds

    def _open_relays(self) -> list["Relay"]:
        return list(self._relays)

    def _stop(self) -> None:
        for relay in self._open_relays():
            relay.abort()


class Relay:
    """One connection through the tunnel. `heard` is called for what comes from the remote end, `ended` once."""

    def __init__(
        self,
        client: socket.socket,
        open_channel: Callable[[], "paramiko.Channel"],
        heard: Callable[[], None],
        ended: Callable[["Relay"], None],
    ) -> None:
        self.client = client
        self.moved_at = time.monotonic()
        self.is_half_closed = False
        self._open_channel = open_channel
        self._heard = heard
        self._ended = ended
        self._channel: paramiko.Channel | None = None
        self._aborted = False
        self._thread = threading.Thread(target=self._run, name=f"tunnel-relay-{client.fileno()}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def abort(self) -> None:
        """End both directions; the client sees a reset."""
        self._aborted = True
        with contextlib.suppress(OSError):
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.client.shutdown(socket.SHUT_RD)  # wakes the reader, and says nothing to the client yet
        if self._channel is not None:
            hang_up(self._channel)

    def end(self) -> None:
        self.client.close()
        self._ended(self)

    def join(self, deadline: float) -> None:
        """Wait for the threads. One that is stuck in sending to a client that does not read is freed half-way."""
        if self._thread.is_alive():  # not one that could not be started
            self._thread.join(max(0.0, (deadline - time.monotonic()) / 2))
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_RDWR)
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            channel = self._channel = self._open_channel()
        except ModelError:
            self.abort()  # whoever opens the tunnel next is told why
        else:
            if self._aborted:
                hang_up(channel)
            sender = threading.Thread(target=self._send, args=[channel], name=self._thread.name, daemon=True)
            sender.start()
            self._receive(channel)
            sender.join()
            hang_up(channel)
        finally:
            self.end()

    def _receive(self, channel: "paramiko.Channel") -> None:
        """From the remote end to the client."""
        try:
            while data := channel.recv(_CHUNK_BYTES):
                self.moved_at = time.monotonic()
                self._heard()
                self.client.sendall(data)
            if not channel.eof_received:
                raise EOFError
            self.client.shutdown(socket.SHUT_WR)
            self.is_half_closed = True
        except dropped():
            self.abort()

    def _send(self, channel: "paramiko.Channel") -> None:
        """From the client to the remote end."""
        try:
            while data := self.client.recv(_CHUNK_BYTES):
                self.moved_at = time.monotonic()
                channel.sendall(data)
            channel.shutdown_write()
            self.is_half_closed = True
        except dropped():
            self.abort()


def _listen(port: int, asked_by: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise LocalPortTaken(
            f"Model {asked_by!r} wants local port {port} for its tunnel, but {_holder(port) or error.strerror}."
        ) from None
    return listener


def _holder(port: int) -> str:
    """Who listens on a port of loopback, as far as this user may know."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and tuple(each.laddr)[1:2] == (port,):
                name = psutil.Process(each.pid).name() if each.pid else "of another user"
                return f"process {each.pid or ''} ({name}) listens there".replace("  ", " ")
    return ""
