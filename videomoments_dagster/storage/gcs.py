"""The object store on Google Cloud Storage. The only module that imports google's packages, and slow to import:
take it through `factory.open_store`. An emulator is used when STORAGE_EMULATOR_HOST is set.
"""

import base64
import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote

import google.auth.credentials
import google.auth.exceptions
import google.auth.transport.requests
import requests
from google.api_core import exceptions as google_errors
from google.cloud import storage
from google.cloud.storage._signing import generate_signed_url_v4  # the public door takes no time of issue
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import service_account

from videomoments_dagster.errors import DiskFull, ObjectMismatch, ObjectMissing, StorageError, StorageUnavailable
from videomoments_dagster.settings import Settings
from videomoments_dagster.storage import signatures
from videomoments_dagster.storage.base import StoredObject
from videomoments_dagster.storage.names import check_object_name

_TIMEOUT_SECONDS = (10, 60)  # to connect, and between two packets
_CHUNK_BYTES = 16 * 1024 * 1024
_ONE_REQUEST_BYTES = 8 * 1024 * 1024  # larger files go in resumable chunks
_ONCE: dict[str, Any] = {"timeout": 5, "retry": None}
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_ACCESS_HINT = "Give the service account the role Storage Object Admin on the bucket, and check GCS_CREDENTIALS_PATH."


class GoogleCloudStore:
    """ObjectStore in a bucket. `signer` makes the V4 signatures; the client's own credentials when None.

    `retry_seconds` bounds how long one call is tried again on 429, 5xx and lost connections.
    """

    signs_at_once = False

    def __init__(
        self,
        client: storage.Client,
        bucket: str,
        *,
        signer: google.auth.credentials.Credentials | None = None,
        ttl_seconds: int = 3600,
        retry_seconds: float = 60.0,
    ) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)
        self._signer = signer or client._credentials
        self._ttl_seconds = ttl_seconds
        self._call: dict[str, Any] = {
            "retry": DEFAULT_RETRY.with_timeout(retry_seconds),
            "timeout": _TIMEOUT_SECONDS,
        }

    @classmethod
    def from_settings(cls, settings: Settings) -> "GoogleCloudStore":
        """With the key file of the settings, else the machine's credentials; an emulator is not authenticated to."""
        with _failures(settings.gcs_bucket_name or ""):
            key = None
            if settings.gcs_credentials_path:
                key = service_account.Credentials.from_service_account_file(
                    str(settings.gcs_credentials_path), scopes=_SCOPES
                )
            if os.environ.get("STORAGE_EMULATOR_HOST"):
                client = storage.Client(project="emulator", credentials=google.auth.credentials.AnonymousCredentials())
            else:
                client = storage.Client(project=key.project_id, credentials=key) if key else storage.Client()
            return cls.from_client(settings, client, signer=key)

    @classmethod
    def from_client(
        cls, settings: Settings, client: storage.Client, *, signer: google.auth.credentials.Credentials | None = None
    ) -> "GoogleCloudStore":
        return cls(client, settings.gcs_bucket_name or "", signer=signer, ttl_seconds=settings.signed_url_seconds)

    def put_file(self, name: str, path: Path, content_type: str, *, is_final: bool = False) -> StoredObject:
        try:
            content = path.open("rb")
        except OSError as error:
            raise StorageError(f"{path} can't be read: {error.strerror}.") from error
        with content:
            md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).digest()
            return self._put(name, content, content.tell(), md5, content_type)

    def put_bytes(self, name: str, data: bytes, content_type: str) -> StoredObject:
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        return self._put(name, BytesIO(data), len(data), md5, content_type)

    def stat(self, name: str) -> StoredObject | None:
        blob = self._blob(name)
        with _failures(self.cloud_url(name)):
            try:
                blob.reload(**self._call)
            except google_errors.NotFound as error:
                if "bucket does not exist" in str(error.message):
                    raise self._no_bucket() from error
                return None
        return _stored(blob)

    def require(self, name: str) -> StoredObject:
        found = self.stat(name)
        if found is None:
            raise ObjectMissing(f"{self.cloud_url(name)} is not there.")
        return found

    @contextmanager
    def local_copy(self, name: str, directory: Path) -> Iterator[Path]:
        """The object streamed to a file in `directory`, its MD5 checked; removed afterwards."""
        present = self.require(name)
        directory.mkdir(parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(dir=directory, suffix=Path(name).suffix)
        try:
            with os.fdopen(descriptor, "wb") as file, _failures(self.cloud_url(name)):
                self._blob(name).download_to_file(
                    file, if_generation_match=present.generation, checksum="md5", **self._call
                )
                file.flush()
                if os.fstat(file.fileno()).st_size != present.size_bytes:
                    raise ObjectMismatch(f"{self.cloud_url(name)} arrived with another size.")
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)

    def delete(self, name: str) -> bool:
        with _failures(self.cloud_url(name)):
            try:
                self._blob(name).delete(**self._call)
            except google_errors.NotFound:
                return False
        return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        with _failures(f"gs://{self._bucket.name}/{prefix}"):
            try:
                yield from map(_stored, self._client.list_blobs(self._bucket, prefix=prefix, **self._call))
            except google_errors.NotFound as error:
                raise self._no_bucket() from error

    def cloud_url(self, name: str) -> str:
        return f"gs://{self._bucket.name}/{check_object_name(name)}"

    def name_of(self, cloud_url: str) -> str:
        root = f"gs://{self._bucket.name}/"
        if not cloud_url.startswith(root):
            raise StorageError(
                f"{cloud_url!r} is not in the bucket {self._bucket.name}.",
                hint="Rows made with another store (GCS_BUCKET_NAME, VIDEOMOMENTS_HOME) need that store.",
            )
        return check_object_name(cloud_url.removeprefix(root))

    def signed_url(
        self, name: str, *, expires_in_seconds: int | None = None, method: Literal["GET", "PUT"] = "GET"
    ) -> str:
        """A V4 URL, signed here when there is a private key, else by Google's IAM for the machine's account: it takes a
        millisecond or a request."""
        if expires_in_seconds is not None:
            return self._sign(name, method, int(time.time()), expires_in_seconds)
        return self._sign(name, method, signatures.issued_at(self._ttl_seconds), self._ttl_seconds)

    def ping(self) -> None:
        with _failures(f"gs://{self._bucket.name}"):
            try:
                next(iter(self._client.list_blobs(self._bucket, max_results=1, **_ONCE)), None)
            except google_errors.NotFound as error:
                raise StorageUnavailable(self._no_bucket().message, hint="Check GCS_BUCKET_NAME.") from error

    def _sign(self, name: str, method: str, issued: int, life_seconds: int) -> str:
        signer: Any = self._signer
        remote: dict[str, Any] = {}
        with _failures(self.cloud_url(name)):
            if not isinstance(signer, google.auth.credentials.Signing):
                account = getattr(signer, "service_account_email", None)
                if not account:
                    raise StorageError(
                        "These Google credentials can't sign URLs.",
                        hint="Set GCS_CREDENTIALS_PATH to a service account's key file.",
                    )
                if not signer.valid:
                    signer.refresh(google.auth.transport.requests.Request())
                remote = {"service_account_email": account, "access_token": signer.token}
            return generate_signed_url_v4(
                signer,
                resource=f"/{self._bucket.name}/{quote(check_object_name(name), safe='/~')}",
                expiration=life_seconds,
                api_access_endpoint=self._client.api_endpoint,
                method=method,
                universe_domain=self._client.universe_domain,
                _request_timestamp=datetime.fromtimestamp(issued, UTC).strftime("%Y%m%dT%H%M%SZ"),
                **remote,
            )

    def _blob(self, name: str) -> storage.Blob:
        return self._bucket.blob(check_object_name(name))

    def _put(self, name: str, content: IO[bytes], size_bytes: int, md5: bytes, content_type: str) -> StoredObject:
        """Upload, unless the same bytes are there. The MD5 goes with the bytes, so that the server refuses damaged
        ones before it replaces the old object; the generation makes a repeated request harmless."""
        encoded = base64.b64encode(md5).decode()
        wanted = (size_bytes, encoded, content_type)
        for _ in range(3):
            present = self.stat(name)
            if present and (present.size_bytes, present.md5, present.content_type) == wanted:
                return present
            blob = self._blob(name)
            blob.md5_hash = encoded
            blob.chunk_size = _CHUNK_BYTES if size_bytes > _ONE_REQUEST_BYTES else None
            with _failures(self.cloud_url(name)):
                try:
                    blob.upload_from_file(
                        content,
                        rewind=True,
                        size=size_bytes,
                        content_type=content_type,
                        checksum="crc32c",
                        if_generation_match=present.generation if present else 0,
                        **self._call,
                    )
                except google_errors.PreconditionFailed:
                    continue  # our own repeated request, or another writer: look again
                except google_errors.NotFound as error:
                    raise self._no_bucket() from error
            stored = _stored(blob)
            if (stored.size_bytes, stored.md5) != wanted[:2]:
                raise ObjectMismatch(f"{self.cloud_url(name)} holds {stored.size_bytes} bytes, MD5 {stored.md5}.")
            return stored
        raise StorageUnavailable(f"{self.cloud_url(name)} is being written by others.")

    def _no_bucket(self) -> StorageError:
        return StorageError(f"The bucket {self._bucket.name} does not exist.", hint="Check GCS_BUCKET_NAME.")


def _stored(blob: storage.Blob) -> StoredObject:
    return StoredObject(
        name=str(blob.name),
        size_bytes=blob.size or 0,
        md5=blob.md5_hash or "",  # composite objects have none
        content_type=blob.content_type or "application/octet-stream",
        generation=blob.generation or 0,
        updated_at=blob.time_created or datetime.now(UTC),  # of this generation; metadata may be touched later
    )


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except DataCorruption as error:
        raise ObjectMismatch(f"{what}: the bytes changed on their way.") from error
    except (google_errors.GoogleAPICallError, InvalidResponse) as error:
        raise _named(what, error) from error
    except google.auth.exceptions.TransportError as error:
        raise StorageUnavailable(f"{what}: Google's authorization does not answer.") from error
    except (google.auth.exceptions.GoogleAuthError, ValueError) as error:
        raise StorageError(f"{what}: {error}", hint=_ACCESS_HINT) from error
    except (google_errors.RetryError, requests.RequestException) as error:
        raise StorageUnavailable(f"{what}: {type(error).__name__}.") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"{what}: {error.strerror}.") from error
        raise StorageError(f"{what}: {error.strerror or error}.") from error


def _named(what: str, error: google_errors.GoogleAPICallError | InvalidResponse) -> StorageError:
    code = error.code if isinstance(error, google_errors.GoogleAPICallError) else error.response.status_code
    if code == 404:
        return ObjectMissing(f"{what} is not there.")
    if code in {401, 403}:
        return StorageError(f"{what}: access is refused ({code}).", hint=_ACCESS_HINT)
    if code in {408, 429} or (code and code >= 500):
        return StorageUnavailable(f"{what}: the store answers {code}.")
    if code == 400:
        return ObjectMismatch(f"{what}: the store refused the bytes: {error}")
    return StorageError(f"{what}: {error}")
