"""HTTP sessions to model servers: kept connections whose requests end after a total time, whatever the server does.

The timeouts of requests bound one silence each; a server that drips a byte now and then would hold a run for ever.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

_CONNECTIONS = 32
"""Kept open to one server: as many as requests are asked at the same time."""


class Watch:
    """One request: its socket, how long the server may be silent, and whether its total time ran out."""

    def __init__(self, silence_seconds: float) -> None:
        self.silence_seconds = silence_seconds
        self.socket: socket.socket | None = None
        self.expired = threading.Event()

    def expire(self) -> None:
        self.expired.set()
        self.cut_off()

    def cut_off(self) -> None:
        """End the connection, if there is one yet."""
        if self.socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # not TLS's own: it is busy in another thread


_current = threading.local()


@contextmanager
def watched(silence_seconds: float, total_seconds: float) -> Iterator[Watch]:
    """Requests of this thread in the body are cut off after `total_seconds`; the watch says whether that happened."""
    _current.watch = watch = Watch(silence_seconds)
    timer = threading.Timer(total_seconds, watch.expire)
    timer.daemon = True
    timer.start()
    try:
        yield watch
    finally:
        timer.cancel()
        _current.watch = None


def open_session() -> requests.Session:
    """A session for `watched` requests, without retries of its own."""
    session = requests.Session()
    adapter = _Adapter(pool_maxsize=_CONNECTIONS, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether a `kind` is in `error`: requests and urllib3 wrap causes as arguments and reasons of one another."""
    if isinstance(error, kind):
        return True
    inner = [*error.args, getattr(error, "reason", None), error.__cause__]
    return any(caused_by(one, kind) for one in inner if isinstance(one, BaseException))


def _watch() -> Watch | None:
    return getattr(_current, "watch", None)


class _Watched(HTTPConnection):
    """Shows its socket to the watch. A server busy with another request may leave an upload unread for as long as it
    may be silent: urllib3 would send with the connect timeout."""

    def connect(self) -> None:
        super().connect()
        self._show()

    def request(self, *arguments: Any, **options: Any) -> None:
        self._show()
        super().request(*arguments, **options)

    def _new_conn(self) -> socket.socket:
        watch, plain = _watch(), super()._new_conn()
        if watch is not None:
            watch.socket = plain  # a proxy may take its time before there is a connection
        return plain

    def _show(self) -> None:
        watch = _watch()
        if self.sock is not None and watch is not None:
            watch.socket = getattr(self.sock, "socket", self.sock)  # urllib3's TLS within TLS is no socket, but has one
            self.sock.settimeout(watch.silence_seconds)
            if watch.expired.is_set():  # while nothing could be cut off
                watch.cut_off()


class _Secure(_Watched, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched  # pyright: ignore[reportAssignmentType]  # urllib3's protocol is not its class


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure  # pyright: ignore[reportAssignmentType]


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        standard: Any = HTTPConnection.default_socket_options
        options["socket_options"] = [*standard, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(proxy, **options)
        if isinstance(manager, ProxyManager):  # those of SOCKS proxies have connections of their own kind
            manager.pool_classes_by_scheme = _POOLS
        return manager
