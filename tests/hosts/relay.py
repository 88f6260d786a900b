"""Lets other hosts reach a server that listens on loopback alone, as the embedded PostgreSQL and Redis do."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

_BLOCK_BYTES = 64 * 1024


@contextmanager
def relaying(address: str, *ports: int) -> Iterator[None]:
    """Everything that arrives at `address` on one of `ports` goes to the same port of 127.0.0.1, and back. Both belong
    to the host that the calling thread is in."""
    ready, loop, ended = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def relay() -> None:
        servers = [await asyncio.start_server(partial(_connected, port), address, port) for port in ports]
        ready.set()
        await ended.wait()
        for server in servers:
            server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # its end cancels what is left of the connections
            runner.run(relay())

    thread = threading.Thread(target=run, name="relay", daemon=True)
    thread.start()
    assert ready.wait(10), "the relay did not start"
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


async def _connected(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.CancelledError):
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(_BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
    finally:
        writer.close()
