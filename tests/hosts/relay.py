"""Lets other hosts reach a server that listens on loopback alone, as the embedded PostgreSQL and Redis do. All that the
workers ask goes through here: on uvloop, and without a task or a copy for each piece.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import uvloop


class _End(asyncio.Protocol):
    """One end of a relayed connection: what it receives, the `other` end sends."""

    other: "_End | None" = None
    transport: asyncio.Transport

    def __init__(self, ends: "set[_End]") -> None:
        self._ends = ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._ends.add(self)

    def data_received(self, data: bytes) -> None:
        assert self.other
        self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends.discard(self)
        if self.other:
            self.other.transport.close()  # what was written is sent first

    def pause_writing(self) -> None:
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other:
            self.other.transport.resume_reading()


class _Outer(_End):
    """The end of who has come: what it receives is kept until the server's end is there."""

    def __init__(self, ends: set[_End], port: int) -> None:
        super().__init__(ends)
        self._port, self._early = port, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other:
            super().data_received(data)
        else:
            self._early += data

    async def _connect(self) -> None:
        loop, inner = asyncio.get_running_loop(), _End(self._ends)
        inner.other = self
        try:
            await loop.create_connection(lambda: inner, "127.0.0.1", self._port)
        except OSError:
            self.transport.close()
            return
        self.other = inner
        inner.transport.write(bytes(self._early))
        if self.transport.is_closing():
            inner.transport.close()


@contextmanager
def relaying(address: str, *ports: int) -> Iterator[None]:
    """Everything that arrives at `address` on one of `ports` goes to the same port of 127.0.0.1, and back. Both belong
    to the host that the calling thread is in."""
    ready, loop, ended = threading.Event(), uvloop.new_event_loop(), asyncio.Event()
    ends: set[_End] = set()

    async def relay() -> None:
        servers = [await loop.create_server(partial(_Outer, ends, port), address, port) for port in ports]
        ready.set()
        await ended.wait()
        for server in servers:
            server.close()
        for end in [*ends]:
            end.transport.abort()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # its end cancels connections half made
            runner.run(relay())

    thread = threading.Thread(target=run, name="relay", daemon=True)
    thread.start()
    assert ready.wait(10), "the relay did not start"
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
