"""The TUS 1.0.0 protocol (https://tus.io/protocols/resumable-upload): what its headers mean, and what is wrong with
them."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem_of
from videomoments_dagster.errors import Conflict, InvalidInput, PreconditionFailed, VideoMomentsError

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
ALGORITHMS = ("md5", "sha1", "sha256")
UNTOLD_KEY = "webhook_secret"
"""The one key of Upload-Metadata that is never told again."""
_MOST_BYTES = 2**53
"""More can't be counted by every client: the largest exact integer of JavaScript."""
_METADATA_CHARACTERS = 16 * 1024


class OffsetMismatch(Conflict):
    """`offset` is where the upload stands."""

    code, title = "offset_mismatch", "The upload stands elsewhere"
    hint = "Ask for the offset with HEAD, and go on from there."

    def __init__(self, offset: int) -> None:
        super().__init__(f"The upload stands at byte {offset}.")
        self.offset = offset


class VersionMismatch(PreconditionFailed):
    code, title = "tus_version_mismatch", "Not this version of TUS"
    hint = f"Send `Tus-Resumable: {VERSION}`."


class UnsupportedMedia(InvalidInput):
    code, title, status = "unsupported_media_type", "Not a media type that is read here", 415
    hint = f"Send `Content-Type: {MEDIA_TYPE}`."


class UnknownAlgorithm(InvalidInput):
    code, title, status = "unknown_checksum_algorithm", "The checksum's algorithm is not known", 400
    hint = f"Known: {', '.join(ALGORITHMS)}."


class ChecksumMismatch(VideoMomentsError):
    code, title, status, retryable = "checksum_mismatch", "The checksum does not fit", 460, True
    hint = "Nothing of it was kept: send the same bytes again."


@dataclass(frozen=True, slots=True)
class Checksum:
    """`Upload-Checksum`: what the bytes of one request must have."""

    algorithm: str
    digest: bytes

    @classmethod
    def parse(cls, header: str | None) -> "Checksum | None":
        """Raises InvalidInput, UnknownAlgorithm."""
        if header is None:
            return None
        algorithm, _, encoded = header.strip().partition(" ")
        if algorithm not in ALGORITHMS:
            raise UnknownAlgorithm(f"Upload-Checksum names {algorithm[:40]!r}.")
        return cls(algorithm, _decoded("Upload-Checksum", encoded))

    def new(self) -> Any:
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def check(self, digest: bytes) -> None:
        """Raises ChecksumMismatch."""
        if not hmac.compare_digest(digest, self.digest):
            raise ChecksumMismatch(f"The {self.algorithm} of what arrived is not the one announced.")


def parse_bytes(name: str, value: str | None) -> int:
    """A header that counts bytes. Raises InvalidInput."""
    if value is None:
        raise InvalidInput(f"The header {name} is missing.")
    if not (value.isascii() and value.isdigit() and len(value) <= 20) or int(value) >= _MOST_BYTES:
        raise InvalidInput(f"{name} is {value[:40]!r}, which is no number of bytes.")
    return int(value)


def parse_metadata(header: str) -> dict[str, str]:
    """`Upload-Metadata`: pairs of a key and a value in base64, with commas between. Raises InvalidInput."""
    if len(header) > _METADATA_CHARACTERS:
        raise InvalidInput(f"Upload-Metadata is longer than {_METADATA_CHARACTERS} characters.")
    found: dict[str, str] = {}
    for pair in filter(None, (each.strip() for each in header.split(","))):
        key, _, encoded = pair.partition(" ")
        if key in found:
            raise InvalidInput(f"Upload-Metadata has the key {key[:40]!r} twice.")
        try:
            found[key] = _decoded("Upload-Metadata", encoded).decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"The value of {key[:40]!r} in Upload-Metadata is not UTF-8.") from None
        if "\0" in found[key]:
            raise InvalidInput(f"The value of {key[:40]!r} in Upload-Metadata has a zero byte.")
    return found


def without_secret(metadata: str) -> str:
    """`Upload-Metadata`, to be shown."""
    return ",".join(pair for pair in metadata.split(",") if pair.strip().partition(" ")[0] != UNTOLD_KEY)


def http_date(at: datetime) -> str:
    return format_datetime(at, usegmt=True)


class Tus:
    """ASGI middleware of the operations under `path`: the version is checked and named, and X-HTTP-Method-Override
    read, as the protocol demands. GET is not the protocol's."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{self._path}/"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        override = headers.get("X-HTTP-Method-Override", "").upper()
        if scope["method"] == "POST" and override in {"PATCH", "DELETE"}:
            scope["method"] = override

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Tus-Resumable"] = VERSION
                answer["Cache-Control"] = "no-store"
                if message["status"] == VersionMismatch.status:
                    answer["Tus-Version"] = VERSION
            await send(message)

        if scope["method"] in {"POST", "HEAD", "PATCH", "DELETE"} and headers.get("Tus-Resumable") != VERSION:
            refusal = problem_of(VersionMismatch("The header Tus-Resumable is not there, or of another version."))
            await refusal(scope, receive, send_with_version)
        else:
            await self._app(scope, receive, send_with_version)


def _decoded(header: str, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        raise InvalidInput(f"{header} has a value that is not base64.") from None
