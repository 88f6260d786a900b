"""Uploads that survive whatever ends their connection, the API or its host: each is a directory of the temp files with
the file as far as it has come, whose size is the offset, and a record of what it is to become."""

import json
import logging
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from pydantic import TypeAdapter, ValidationError

from api import receiving
from api.receiving import Sender, UploadBusy
from api.services import Services
from api.submission import Submission
from api.tus import UNTOLD_KEY, Checksum, OffsetMismatch, parse_metadata, without_secret
from api.uploads import Wishes, check, submit
from videomoments_dagster.disk_usage import measure
from videomoments_dagster.errors import (
    NO_SPACE,
    DiskFull,
    InvalidInput,
    NotFound,
    RateLimited,
    TooLarge,
    VideoMomentsError,
)
from videomoments_dagster.file_locks import FileLock
from videomoments_dagster.temp_files import RESUME, UNUSED_SECONDS, UPLOADS, TempFiles

MOST_UNFINISHED = 100
MOST_OF_ONE = 25
"""Of one API key; where none is needed, of one address."""
IDLE_SECONDS = 3600.0
"""Nothing came for so long: it makes room for another, when there is none."""
EMPTY_SECONDS = 60.0
"""The same, when nothing came at all."""
_FREE_BYTES = 1024**3
"""Left on the disk for everybody else."""
_KEYS = {"filename", "title", "identifier", "config", "idempotency_key", "webhook_url", UNTOLD_KEY}
_KEYS_OF_CLIENTS = {"name", "type", "filetype", "contentType", "relativePath"}
"""Sent by every browser's client, whether asked for or not; `name` is the file's."""
_CONTENT, _PART = "content", "part"
_log = logging.getLogger("videomoments.api")


class NoRoomForUpload(TooLarge):
    code, title, retryable = "no_room_for_upload", "There is no room for the upload now", True
    hint = "Try again when other uploads have ended; VIDEOMOMENTS_TEMP_BYTES and the free disk bound them together."


@dataclass(frozen=True, slots=True)
class ResumableUpload:
    """`metadata` is as the client sent it, `owner` who that was. `submitted` is None until the request's row is
    there."""

    upload_id: str
    length: int
    offset: int
    metadata: str
    expires_at: datetime
    submitted: Submission | None
    owner: str = ""

    @property
    def is_complete(self) -> bool:
        return self.offset == self.length

    @property
    def gives_way(self) -> bool:
        """Whether it has been idle for so long that another may take its room."""
        idle_seconds = UNUSED_SECONDS - (self.expires_at - datetime.now(UTC)).total_seconds()
        return idle_seconds > (IDLE_SECONDS if self.offset else EMPTY_SECONDS)


@dataclass(frozen=True, slots=True)
class _Record:
    """What RESUME holds. One that can't be read is taken for none: cleaning up removes what is with it."""

    length: int
    metadata: str
    video_id: str | None = None
    request_id: str | None = None
    owner: str = ""

    @classmethod
    def read(cls, directory: Path) -> "_Record":
        """Raises FileNotFoundError."""
        try:
            return _RECORD.validate_json((directory / RESUME).read_bytes())
        except ValidationError as error:
            _log.warning("The record of the upload in %s can't be read.", directory)
            raise FileNotFoundError(directory) from error

    def write(self, directory: Path) -> None:
        """Raises DiskFull."""
        scratch = directory / f"{RESUME}.new"
        with _no_space():
            scratch.write_text(json.dumps(asdict(self)))
            scratch.replace(directory / RESUME)


_RECORD = TypeAdapter(_Record)


def create(services: Services, length: int, metadata: str, owner: str) -> ResumableUpload:
    """An empty upload. Its identifier is that of the request that it becomes, so that it becomes one only. `owner` is
    who has MOST_OF_ONE at most. Raises InvalidInput, TooLarge, NoRoomForUpload, RateLimited, DiskFull."""
    check(services, _wishes(metadata))
    most = services.settings.max_download_bytes
    if length > most:
        raise TooLarge(f"The upload is larger than {most} bytes.")
    temp, upload_id = TempFiles.of(services.settings), str(uuid.uuid4())
    with _one_at_a_time(services):
        _make_room(services, lambda unfinished: _refusal(services, unfinished, length, owner))
        with _no_space(), temp.parked(UPLOADS, upload_id, create=True) as directory:
            (directory / _CONTENT).touch()
            _Record(length, metadata, owner=owner).write(directory)
            return _read(upload_id, directory)


def make_room(services: Services, length: int, missing: int) -> None:
    """For what comes in another way: `length` bytes of which `missing` are still to come. Raises NoRoomForUpload."""
    with _one_at_a_time(services):
        _make_room(services, lambda unfinished: _no_room(services, unfinished, length, missing))


def find(services: Services, upload_id: str) -> ResumableUpload:
    """How far it is, whoever sends to it. Raises NotFound."""
    directory = TempFiles.of(services.settings).find_parked(UPLOADS, upload_id)
    with _found(upload_id):
        if directory is None:
            raise FileNotFoundError(upload_id)
        return _read(upload_id, directory)


async def remove(services: Services, upload_id: str) -> None:
    """Forget it, with what has come. What it was submitted as stays. Raises NotFound, UploadBusy."""
    async with receiving.only_sender(upload_id):
        await receiving.to_the_end(_remove, services, upload_id)


async def receive(
    services: Services,
    upload_id: str,
    body: AsyncIterator[bytes],
    *,
    offset: int,
    announced: int | None,
    checksum: Checksum | None,
    metadata: str | None = None,
) -> ResumableUpload:
    """Add `body`, which comes to be at `offset` and has `announced` bytes, and submit the file when it is whole; with
    `metadata` in place of the one it was made with. What came before a failure stays, unless there is a `checksum`.

    Raises NotFound, UploadBusy, OffsetMismatch, TooLarge, ChecksumMismatch, DiskFull, and as `submit` does.
    """
    async with (
        receiving.only_sender(upload_id) as sender,
        contextmanager_in_threadpool(_held(services, upload_id)) as directory,
    ):
        upload = await run_in_threadpool(_read, upload_id, directory)
        if offset != upload.offset:
            raise OffsetMismatch(upload.offset)
        if announced is not None and offset + announced > upload.length:
            raise TooLarge(f"The upload has {upload.length} bytes; {announced} at {offset} are more.")
        if upload.submitted:
            return upload
        if metadata is not None:
            await run_in_threadpool(check, services, _wishes(metadata))
            await receiving.to_the_end(_Record(upload.length, metadata, owner=upload.owner).write, directory)
        await _add(directory, body, sender, upload.length - offset, checksum)
        return await receiving.to_the_end(_submit, services, upload_id, directory)


def submit_if_complete(services: Services, upload: ResumableUpload) -> ResumableUpload:
    """What a process that died between the last byte and the answer left undone. Why it can't be done is told to who
    sends: this is for who only looks."""
    try:
        with _held(services, upload.upload_id) as directory:
            return _submit(services, upload.upload_id, directory)
    except VideoMomentsError as error:
        _log.warning("Upload %s is complete, but not submitted: %s", upload.upload_id, error.code)
        return upload


def _wishes(metadata: str) -> Wishes:
    """What Upload-Metadata asks for. Raises InvalidInput."""
    found = parse_metadata(metadata)
    if unknown := sorted(found.keys() - _KEYS - _KEYS_OF_CLIENTS):
        raise InvalidInput(
            f"Upload-Metadata has the unknown key {unknown[0][:40]!r}.", hint=f"Known: {', '.join(sorted(_KEYS))}."
        )
    return Wishes.parse({"filename": found.get("name", ""), **{key: found[key] for key in _KEYS & found.keys()}})


async def _add(
    directory: Path, body: AsyncIterator[bytes], sender: Sender, most: int, checksum: Checksum | None
) -> None:
    content = directory / _CONTENT
    if checksum is None:
        await receiving.append(body, content, sender, most=most)
        return
    part = directory / _PART  # the file has only what was checked, whenever this is killed
    try:
        with _no_space():
            await run_in_threadpool(part.write_bytes, b"")
        digest = checksum.new()
        await receiving.append(body, part, sender, most=most, digest=digest)
        checksum.check(digest.digest())
        await receiving.to_the_end(_join, content, part)
    finally:
        part.unlink(missing_ok=True)


def _join(content: Path, part: Path) -> None:
    with _no_space(), part.open("rb") as source, content.open("ab") as target:
        shutil.copyfileobj(source, target, receiving.BATCH_BYTES)


def _submit(services: Services, upload_id: str, directory: Path) -> ResumableUpload:
    upload = _read(upload_id, directory)
    if upload.submitted or not upload.is_complete:
        return upload
    content = directory / _CONTENT
    made = submit(services, content, _wishes(upload.metadata), upload_id)
    metadata = without_secret(upload.metadata)
    _Record(upload.length, metadata, made.video_id, made.request_id, upload.owner).write(directory)
    content.unlink()
    return replace(upload, submitted=made)


def _remove(services: Services, upload_id: str) -> None:
    with _held(services, upload_id) as directory:
        (directory / RESUME).unlink()


def _read(upload_id: str, directory: Path) -> ResumableUpload:
    """Raises FileNotFoundError when it has been removed."""
    try:
        offset = (directory / _CONTENT).stat().st_size
    except FileNotFoundError:
        offset = None  # submitted, since the file goes after the record is written: so it is looked at first
    record = _Record.read(directory)
    if offset is None and record.video_id is None:
        raise FileNotFoundError(directory)
    made = Submission(record.video_id, record.request_id) if record.video_id else None
    left_seconds = UNUSED_SECONDS - measure(directory).age_seconds
    expires_at = (datetime.now(UTC) + timedelta(seconds=left_seconds)).replace(microsecond=0)
    come = record.length if made else offset or 0
    return ResumableUpload(upload_id, record.length, come, record.metadata, expires_at, made, record.owner)


def _make_room(services: Services, refusal: Callable[[list[ResumableUpload]], "_Refusal | None"]) -> None:
    """Until `refusal`, which is told the unfinished ones, gives None. Only while nobody else makes an upload."""
    unfinished: list[ResumableUpload] = []
    for path in TempFiles.of(services.settings).all_parked(UPLOADS):
        with suppress(OSError):
            if (path / _CONTENT).exists():
                unfinished.append(_read(path.parent.name, path))
    unfinished.sort(key=lambda each: each.expires_at)
    idle = [each for each in unfinished if each.gives_way]
    while refused := refusal(unfinished):
        oldest = next((each for each in idle if refused.owner in {None, each.owner}), None)
        if oldest is None:
            raise refused.error
        idle.remove(oldest)
        with suppress(UploadBusy):  # somebody comes back to it just now: it stays
            with suppress(NotFound):
                _remove(services, oldest.upload_id)
            unfinished.remove(oldest)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """`owner`: only what is theirs can make room."""

    error: VideoMomentsError
    owner: str | None = None


def _refusal(services: Services, unfinished: list[ResumableUpload], length: int, owner: str) -> _Refusal | None:
    if sum(each.owner == owner for each in unfinished) >= MOST_OF_ONE:
        return _Refusal(RateLimited(f"{MOST_OF_ONE} of your uploads are unfinished.", retry_after_seconds=60), owner)
    if len(unfinished) >= MOST_UNFINISHED:
        return _Refusal(RateLimited(f"{MOST_UNFINISHED} uploads are unfinished on this host.", retry_after_seconds=60))
    return _no_room(services, unfinished, length, length)


def _no_room(services: Services, unfinished: list[ResumableUpload], length: int, missing: int) -> _Refusal | None:
    """For `length` bytes more of which `missing` are still to come."""
    if sum(each.length for each in unfinished) + length > services.settings.temp_bytes:
        return _Refusal(NoRoomForUpload(f"Unfinished uploads leave no room for {length} bytes."))
    missing += sum(each.length - each.offset for each in unfinished)
    if missing + _FREE_BYTES > shutil.disk_usage(services.settings.home).free:
        return _Refusal(NoRoomForUpload(f"The disk has no room for {length} bytes more."))
    return None


@contextmanager
def _one_at_a_time(services: Services) -> Iterator[None]:
    """Creators, in all processes of this host: none may count before another is there to be counted."""
    directory = services.settings.temp_directory
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory.with_name("uploads.lock"))
    try:
        lock.take()
        yield
    finally:
        lock.release()


@contextmanager
def _held(services: Services, upload_id: str) -> Iterator[Path]:
    """Its directory, for the one who works there. Raises NotFound, UploadBusy."""
    with _found(upload_id), TempFiles.of(services.settings).parked(UPLOADS, upload_id) as directory:
        yield directory


@contextmanager
def _found(upload_id: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(
            f"There is no upload {upload_id!r}.", hint="It was removed, or has expired: begin anew."
        ) from None
    except BlockingIOError:
        raise UploadBusy(f"Somebody sends to the upload {upload_id!r} just now.") from None


@contextmanager
def _no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFull(f"The upload can't be kept: {error.strerror}.", hint="Free space, then go on.") from error
