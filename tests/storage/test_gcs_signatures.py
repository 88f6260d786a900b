"""V4 URLs, checked the way Google does, offline, with the public half of a throw-away key: no emulator checks them."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.storage.accounts import account_of
from videomoments_dagster.errors import StorageError
from videomoments_dagster.settings import Settings
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.factory import open_store
from videomoments_dagster.storage.gcs import GoogleCloudStore


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def gcs(key: rsa.RSAPrivateKey, tmp_path: Path) -> ObjectStore:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(account_of(key)))
    settings = Settings.model_validate(
        {
            "VIDEOMOMENTS_HOME": tmp_path,
            "GCS_BUCKET_NAME": "bucket-a",
            "GCS_CREDENTIALS_PATH": path,
            "VIDEOMOMENTS_SIGNED_URL_SECONDS": 900,
        }
    )
    return open_store(settings)


def is_signed(method: str, url: str, public_key: rsa.RSAPublicKey, now: datetime) -> bool:
    """Google's canonical request for a query-signed URL (docs: "Canonical requests", "Signatures"), verified."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    issued = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if query["X-Goog-Algorithm"] != "GOOG4-RSA-SHA256" or query["X-Goog-SignedHeaders"] != "host":
        return False
    if not issued - timedelta(minutes=1) <= now <= issued + timedelta(seconds=int(query["X-Goog-Expires"])):
        return False
    canonical_query = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))
    canonical = f"{method}\n{parts.path}\n{canonical_query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].split("/", 1)[1]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n{digest}"
    try:
        public_key.verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_v4_url_verifies_for_its_method_object_and_time_only(gcs: ObjectStore, key, method) -> None:
    now, public = datetime.now(UTC), key.public_key()
    url = gcs.signed_url("clips/a/ü b.mp4", method=method)
    assert url.startswith("https://storage.googleapis.com/bucket-a/clips/a/%C3%BC%20b.mp4?")
    assert is_signed(method, url, public, now)
    assert not is_signed("DELETE", url, public, now)
    assert not is_signed(method, url.replace("clips/a", "clips/b"), public, now)
    assert not is_signed(method, url.replace("X-Goog-Expires=900", "X-Goog-Expires=90000"), public, now)
    assert not is_signed(method, url, public, now + timedelta(seconds=960))
    another = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    assert not is_signed(method, url, another, now)


def test_the_life_of_a_url_can_be_asked_for(gcs: ObjectStore, key) -> None:
    url = gcs.signed_url("a", expires_in_seconds=60)
    assert "X-Goog-Expires=60&" in url
    assert is_signed("GET", url, key.public_key(), datetime.now(UTC))


def test_credentials_that_can_not_sign_say_so() -> None:
    gcs = GoogleCloudStore(storage.Client(project="p", credentials=AnonymousCredentials()), "bucket-a")
    with pytest.raises(StorageError, match="can't sign") as caught:
        gcs.signed_url("a")
    assert "GCS_CREDENTIALS_PATH" in caught.value.hint


@pytest.mark.parametrize("content", [None, "not json", "{}"])
def test_a_key_file_that_is_missing_or_broken_is_a_storage_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    settings = Settings.model_validate(
        {"VIDEOMOMENTS_HOME": tmp_path, "GCS_BUCKET_NAME": "b", "GCS_CREDENTIALS_PATH": path}
    )  # pyright: ignore[reportCallIssue]
    with pytest.raises(StorageError):
        open_store(settings)


def test_the_same_url_is_given_for_half_its_life_by_any_process(
    gcs: ObjectStore, key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = 1_800_000_000  # a multiple of half its 900 seconds
    monkeypatch.setattr("time.time", lambda: begin + 1)
    first, other, exact = gcs.signed_url("a"), gcs.signed_url("b"), gcs.signed_url("a", expires_in_seconds=900)
    assert len({first, other, exact}) == 3
    monkeypatch.setattr("time.time", lambda: begin + 449)
    again: Any = gcs
    again._signed = (0, {})  # as another process begins
    assert gcs.signed_url("a") == first
    assert is_signed("GET", first, key.public_key(), datetime.fromtimestamp(begin + 449 + 450, UTC))
    monkeypatch.setattr("time.time", lambda: begin + 450)
    assert gcs.signed_url("a") != first
