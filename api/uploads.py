"""Receiving a file: the multipart body goes to disk as it arrives, never into memory, and never to disk twice before
it is stored."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from videomoments_dagster.errors import NO_SPACE, DiskFull, InvalidInput, SourceTooLarge

_BATCH_BYTES = 1024 * 1024
_FIELD_BYTES = 64 * 1024
_FIELDS = {"title", "identifier", "config"}


@dataclass(slots=True)
class Upload:
    """The file at `path`, and the form's other fields."""

    path: Path | None = None
    filename: str = ""
    fields: dict[str, str] = field(default_factory=dict)


async def receive(request: Request, directory: Path, max_bytes: int) -> Upload:
    """Read the whole body, its file into `directory`.

    Raises InvalidInput when it is not one file in a form, SourceTooLarge past `max_bytes`.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidInput("The body is not a form.", hint="Send multipart/form-data with the video in `file`.")
    upload = Upload()
    content_type: dict[str, Any] = {"Content-Type": request.headers["content-type"].encode()}
    settings = {"UPLOAD_DIR": str(directory), "UPLOAD_DELETE_TMP": False, "MAX_MEMORY_FILE_SIZE": 0}
    received, batch = 0, bytearray()
    try:
        parser = create_form_parser(
            content_type,
            lambda each: _take_field(upload, each),
            lambda file: _take_file(upload, file),
            config={**settings, "MAX_FIELDS": 16, "MAX_FIELD_SIZE": _FIELD_BYTES},
        )
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_bytes:
                raise SourceTooLarge(f"The upload is larger than {max_bytes} bytes.")
            batch += chunk
            if len(batch) >= _BATCH_BYTES:
                await run_in_threadpool(parser.write, bytes(batch))
                batch.clear()
        await run_in_threadpool(parser.write, bytes(batch))
        await run_in_threadpool(parser.finalize)
    except ClientDisconnect as error:
        raise InvalidInput("The upload ended early.", hint="Send the file again.") from error
    except (FormParserError, ValueError) as error:
        raise InvalidInput(f"The form can't be read: {error}") from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFull(f"The upload can't be kept: {error.strerror}.") from error
    if upload.path is None:
        raise InvalidInput("The form has no file.", hint="Send the video as the form field `file`.")
    return upload


def _take_field(upload: Upload, field: Field) -> None:
    name = (field.field_name or b"").decode(errors="replace")
    if name not in _FIELDS:
        raise InvalidInput(f"The form field {name!r} is not known.", hint=f"Known: file, {', '.join(sorted(_FIELDS))}.")
    upload.fields[name] = (field.value or b"").decode(errors="replace")


def _take_file(upload: Upload, file: File) -> None:
    name = (file.field_name or b"").decode(errors="replace")
    try:
        if name != "file" or upload.path:
            raise InvalidInput("The form has more than the one file in `file`.")
        if not file.size:
            raise InvalidInput("The file is empty.")
        path = file.actual_file_name
        upload.path = Path(path.decode() if isinstance(path, bytes) else str(path))
        upload.filename = Path((file.file_name or b"").decode(errors="replace").replace("\\", "/")).name
    finally:
        file.close()
