"""Receiving a file: the multipart body goes to disk as it arrives, never into memory, and never to disk twice before
it is stored. And what is asked for along with a file, however that came."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from api import submission
from api.receiving import BATCH_BYTES, heard, to_the_end
from api.services import Services
from api.submission import Submission
from videomoments_dagster.errors import NO_SPACE, DiskFull, InvalidInput, SourceTooLarge
from videomoments_dagster.identifiers import validate_identifier
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.webhooks import Webhook

_FIELD_BYTES = 64 * 1024
_FIELDS = {"title", "identifier", "config", "webhook_url", "webhook_secret"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the file is called, and what is to be made of it."""

    filename: str
    identifier: str | None
    config: PipelineConfig
    idempotency_key: str | None
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> Self:
        """Of `filename`, `title`, `identifier`, `config` (JSON), `idempotency_key`, `webhook_url` and `webhook_secret`.
        Raises InvalidInput."""
        try:
            config = json.loads(fields.get("config") or "{}")
        except (ValueError, RecursionError):  # thousands of brackets
            config = None
        if not isinstance(config, dict):
            raise InvalidInput("The field `config` is not a JSON object.")
        if title := fields.get("title"):
            config["title"] = title
        key = fields.get("idempotency_key") or None
        if key and len(key) > 255:
            raise InvalidInput("The idempotency key is longer than 255 characters.")
        identifier = fields.get("identifier") or None
        if identifier:
            validate_identifier(identifier)
        filename = fields.get("filename", "").replace("\\", "/").rpartition("/")[2]
        webhook = fields.get("webhook_url") or None, fields.get("webhook_secret") or None
        return cls(filename, identifier, PipelineConfig.parse(config), key, *webhook)


def check(services: Services, wishes: Wishes) -> None:
    """Whether `submit` would take the file, before it is sent. Raises Conflict, and what Webhook.parse does."""
    submission.refuse_if_taken(
        services,
        identifier=wishes.identifier,
        config=wishes.config,
        idempotency_key=wishes.idempotency_key,
        webhook=Webhook.parse(wishes.webhook_url, wishes.webhook_secret, services.settings),
    )


def submit(services: Services, path: Path, wishes: Wishes, request_id: str) -> Submission:
    """Ask for the pipeline of a received file. Raises as `submission.submit_file` does."""
    return submission.submit_file(
        services,
        path,
        filename=wishes.filename,
        request_id=request_id,
        identifier=wishes.identifier,
        config=wishes.config,
        idempotency_key=wishes.idempotency_key,
        webhook=Webhook.parse(wishes.webhook_url, wishes.webhook_secret, services.settings),
    )


async def receive(
    request: Request, directory: Path, max_bytes: int, came: Callable[[int], Awaitable[None]]
) -> tuple[Path, dict[str, str]]:
    """Read the whole body, its file into `directory`: the file, and the fields with the file's name among them. `came`
    is told how many bytes are there, now and then.

    Raises InvalidInput when it is not one file in a form, SourceTooLarge past `max_bytes`, SenderSilent, DiskFull, and
    what `came` does.
    """
    form = _Form(directory / "content")
    received, batch = 0, bytearray()
    try:
        parser = form.parser(request.headers.get("content-type", ""))
        async for chunk in heard(request.stream()):
            received += len(chunk)
            if received > max_bytes:
                raise SourceTooLarge(f"The upload is larger than {max_bytes} bytes.")
            batch += chunk
            if len(batch) >= BATCH_BYTES:
                await to_the_end(parser.write, bytes(batch))
                batch.clear()
                await came(received)
        await to_the_end(parser.write, bytes(batch))
        if not form.is_whole:
            raise InvalidInput("The form ends early.", hint="Send the file again.")
    except ClientDisconnect as error:
        raise InvalidInput("The upload ended early.", hint="Send the file again.") from error
    except (FormParserError, ValueError) as error:
        raise InvalidInput(f"The form can't be read: {error}") from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFull(f"The upload can't be kept: {error.strerror}.") from error
    finally:
        form.close()
    if "filename" not in form.fields:
        raise InvalidInput("The form has no file.", hint="Send the video as the form field `file`.")
    return form.path, form.fields


class _Form:
    """What the parser finds: small fields, and the file at `path` as it comes. To be closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, str] = {}
        self.is_whole = False
        self._headers: dict[bytes, bytes] = {}
        self._header, self._header_value, self._value = bytearray(), bytearray(), bytearray()
        self._name, self._filename = "", ""
        self._file: BinaryIO | None = None

    def parser(self, content_type: str) -> MultipartParser:
        """Raises InvalidInput, FormParserError."""
        media_type, options = parse_options_header(content_type)
        if media_type != b"multipart/form-data" or b"boundary" not in options:
            raise InvalidInput("The body is not a form.", hint="Send multipart/form-data with the video in `file`.")
        return MultipartParser(
            options[b"boundary"],
            callbacks={
                "on_part_begin": self._headers.clear,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._take,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._header_value)
        self._header.clear()
        self._header_value.clear()

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._filename = options.get(b"filename", b"").decode(errors="replace")
        if b"filename" in options or self._name == "file":
            if self._name != "file" or self._file:
                raise InvalidInput("The form has more than the one file in `file`.")
            self._file = self.path.open("xb", buffering=0)
        elif self._name not in _FIELDS:
            known = ", ".join(sorted(_FIELDS))
            raise InvalidInput(f"The form field {self._name[:40]!r} is not known.", hint=f"Known: file, {known}.")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file" and self._file:
            with memoryview(data) as whole:
                while start < end:
                    start += self._file.write(whole[start:end])
        elif len(self._value) + end - start > _FIELD_BYTES:
            raise InvalidInput(f"The form field {self._name!r} is longer than {_FIELD_BYTES} bytes.")
        else:
            self._value += data[start:end]

    def _end(self) -> None:
        self.is_whole = True

    def _end_part(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._value.decode(errors="replace")
            self._value.clear()
        elif self._file and self._file.tell() == 0:
            raise InvalidInput("The file is empty.")
        else:
            self.fields["filename"] = self._filename
