"""A request's body on its way to a file: in big blocks, off the event loop, and no thread waits for who sends."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from videomoments_dagster.errors import NO_SPACE, Conflict, DiskFull, InvalidInput, TooLarge, VideoMomentsError

BATCH_BYTES = 1024 * 1024
SILENCE_SECONDS = 30.0
"""A connection on which nothing comes for so long is taken for dead: its end may never be told."""
_YIELD_SECONDS = 2.0
"""After so much silence, a sender gives way to another one of the same upload: a client that lost its network comes
back long before the connection that it lost is found dead."""
_END_SECONDS = 5.0
"""To write what it had."""
_T = TypeVar("_T")


class UploadBusy(Conflict):
    code, title, status, retryable = "upload_busy", "Somebody sends to this upload", 423, True
    hint = "Wait a moment, ask for the offset with HEAD, and go on from there."


class SenderSilent(VideoMomentsError):
    code, title, status, retryable = "sender_silent", "Nothing came for too long", 408, True
    hint = "What came is kept: ask for the offset with HEAD, and go on from there."


class Sender:
    """Who sends to an upload in this process."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._heard_at = 0.0

    def is_heard(self, patience: asyncio.Timeout) -> None:
        self._patience, self._heard_at = patience, time.monotonic()
        patience.reschedule(asyncio.get_running_loop().time() + SILENCE_SECONDS)

    def is_not_waited_for(self, patience: asyncio.Timeout) -> None:
        self._patience = None
        patience.reschedule(None)

    def gives_way(self) -> bool:
        """Whether it has been silent, and ends now."""
        patience = self._patience
        if patience is None or patience.expired() or time.monotonic() - self._heard_at < _YIELD_SECONDS:
            return False
        patience.reschedule(asyncio.get_running_loop().time())
        return True


_senders: dict[str, Sender] = {}


@asynccontextmanager
async def only_sender(upload_id: str) -> AsyncIterator[Sender]:
    """One at a time in this process; other processes are kept out by the lock of the upload's directory. Raises
    UploadBusy while another one sends."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            while (before := _senders.get(upload_id)) and before.gives_way():
                await before.ended.wait()
    if upload_id in _senders:
        raise UploadBusy(f"Somebody sends to the upload {upload_id!r} just now.")
    _senders[upload_id] = sender = Sender()
    try:
        yield sender
    finally:
        del _senders[upload_id]
        sender.ended.set()


async def append(body: AsyncIterator[bytes], path: Path, sender: Sender, *, most: int, digest: Any = None) -> None:
    """Write `body` to the end of the file, and feed `digest`. What came before it broke off is written, too; nothing is
    when it has more than `most` bytes. Raises InvalidInput, SenderSilent, TooLarge, DiskFull."""
    came, batch = 0, bytearray()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor).st_size
        try:
            async with asyncio.timeout(None) as patience:
                sender.is_heard(patience)
                async for chunk in body:
                    came += len(chunk)
                    if came > most:
                        batch.clear()
                        os.ftruncate(descriptor, before)
                        raise TooLarge(f"More than the {most} bytes came that are missing.")
                    batch += chunk
                    if len(batch) >= BATCH_BYTES:
                        sender.is_not_waited_for(patience)
                        full, batch = batch, bytearray()  # taken over first: it may be on disk when this is cancelled
                        await to_the_end(_write, descriptor, full, digest)
                    sender.is_heard(patience)
                sender.is_not_waited_for(patience)
        finally:
            if batch:
                await to_the_end(_write, descriptor, batch, digest)
    except ClientDisconnect as error:
        raise InvalidInput("The upload ended early.", hint="Go on from the offset that HEAD tells.") from error
    except TimeoutError as error:
        raise SenderSilent("Nothing came, or the same upload was gone on with elsewhere.") from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFull(f"The upload can't be kept: {error.strerror}.", hint="Free space, then go on.") from error
    finally:
        os.close(descriptor)


async def heard(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`body`, until it is silent for too long: SenderSilent."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise SenderSilent("Nothing came any more.", hint="Send the file again.") from error
        yield chunk


async def to_the_end(work: Callable[..., _T], *arguments: Any) -> _T:
    """`work(*arguments)` in a thread. Whoever cancels this waits for it: no thread writes where nobody knows of it."""
    task = asyncio.ensure_future(run_in_threadpool(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


def _write(descriptor: int, batch: bytearray, digest: Any) -> None:
    if digest is not None:
        digest.update(batch)
    with memoryview(batch) as left:
        done = 0
        while done < len(left):
            done += os.write(descriptor, left[done:])
