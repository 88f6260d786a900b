import hashlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.storage import bucket_server
from tests.storage.bucket_server import BUCKET, BucketServer, answer_status, hang_up
from tests.storage.conftest import md5_of
from videomoments_dagster.errors import ObjectMismatch, ObjectMissing, StorageError, StorageUnavailable
from videomoments_dagster.storage.gcs import GoogleCloudStore

UPLOAD = f"POST /upload/storage/v1/b/{BUCKET}/o"
OBJECT = f"/storage/v1/b/{BUCKET}/o/"


@pytest.fixture
def server() -> Iterator[BucketServer]:
    with bucket_server.running() as server:
        yield server


def open_at(server: BucketServer, bucket: str = BUCKET, retry_seconds: float = 0.3) -> GoogleCloudStore:
    client = storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": server.url}
    )
    return GoogleCloudStore(client, bucket, retry_seconds=retry_seconds)


@pytest.fixture
def gcs(server: BucketServer) -> GoogleCloudStore:
    return open_at(server)


def test_a_stored_file_is_read_back_with_its_size_md5_and_type(gcs: GoogleCloudStore, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"frames" * 1000)
    stored = gcs.put_file("videos/a/a.mp4", source, "video/mp4")
    assert (stored.size_bytes, stored.md5, stored.content_type) == (6000, md5_of(source.read_bytes()), "video/mp4")
    assert gcs.stat("videos/a/a.mp4") == gcs.require("videos/a/a.mp4") == stored
    assert abs(datetime.now(UTC) - stored.updated_at) < timedelta(minutes=1)
    with gcs.local_copy("videos/a/a.mp4", tmp_path / "work") as copy:
        assert copy.read_bytes() == source.read_bytes()
        assert copy.suffix == ".mp4"
    assert list((tmp_path / "work").iterdir()) == []
    assert [each.name for each in gcs.list("videos/")] == ["videos/a/a.mp4"]
    assert gcs.delete("videos/a/a.mp4") is True
    assert gcs.delete("videos/a/a.mp4") is False
    assert gcs.stat("videos/a/a.mp4") is None
    gcs.ping()


def test_a_large_file_goes_in_chunks_and_a_lost_connection_continues(
    gcs: GoogleCloudStore, server: BucketServer, tmp_path: Path
) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(bytes(range(256)) * 4096 * 20)  # 20 MiB: two chunks
    server.faults.append((f"PUT /upload/storage/v1/b/{BUCKET}/o", answer_status(503)))
    stored = open_at(server, retry_seconds=10).put_file("a", source, "video/mp4")
    assert stored.size_bytes == source.stat().st_size
    assert hashlib.md5(server.objects["a"][1]).digest() == hashlib.md5(source.read_bytes()).digest()  # noqa: S324
    assert sum(call.startswith("PUT") for call in server.calls) >= 3


def test_the_same_bytes_are_not_sent_twice(gcs: GoogleCloudStore, server: BucketServer) -> None:
    first = gcs.put_bytes("a", b"same", "text/plain")
    assert gcs.put_bytes("a", b"same", "text/plain") == first
    assert sum(call.startswith("POST /upload") for call in server.calls) == 1
    assert gcs.put_bytes("a", b"other", "text/plain").generation > first.generation


def test_a_repeated_request_whose_answer_was_lost_is_recognized(gcs: GoogleCloudStore, server: BucketServer) -> None:
    def stored_but_unanswered(handler) -> None:
        handler._upload()
        hang_up(handler)

    server.faults.append((UPLOAD, stored_but_unanswered))
    stored = open_at(server, retry_seconds=10).put_bytes("a", b"once", "text/plain")
    assert stored.md5 == md5_of(b"once")
    assert str(stored.generation) == server.objects["a"][0]["generation"] == "1001"


def test_another_writer_in_between_does_not_end_in_mixed_content(gcs: GoogleCloudStore, server: BucketServer) -> None:
    def another_first(handler) -> None:
        server.store({"name": "a", "contentType": "text/plain"}, b"theirs")
        handler._upload()

    server.faults.append((UPLOAD, another_first))
    assert gcs.put_bytes("a", b"ours", "text/plain").md5 == md5_of(b"ours")


def test_bytes_damaged_on_the_way_are_refused_and_the_old_object_stays(
    gcs: GoogleCloudStore, server: BucketServer
) -> None:
    gcs.put_bytes("a", b"old old old", "text/plain")

    def damaged(handler) -> None:
        handler.body = handler.body.replace(b"new new new", b"new nww new")
        handler._upload()

    server.faults.append((UPLOAD, damaged))
    with pytest.raises(ObjectMismatch):
        gcs.put_bytes("a", b"new new new", "text/plain")
    assert gcs.require("a").md5 == md5_of(b"old old old")


def test_a_download_whose_bytes_differ_is_a_mismatch_and_leaves_no_file(
    gcs: GoogleCloudStore, server: BucketServer, tmp_path: Path
) -> None:
    gcs.put_bytes("a", b"right", "text/plain")
    digest = md5_of(b"right")
    server.faults.append(
        (f"GET /download{OBJECT}a", lambda handler: handler.answer(200, b"wrong", {"X-Goog-Hash": f"md5={digest}"}))
    )
    with pytest.raises(ObjectMismatch), gcs.local_copy("a", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, StorageError), (403, StorageError), (429, StorageUnavailable), (503, StorageUnavailable)],
)
def test_refusals_and_faults_of_the_server_have_names(server: BucketServer, status: int, kind: type) -> None:
    gcs = open_at(server)
    for call in (lambda: gcs.stat("a"), lambda: gcs.put_bytes("a", b"x", "text/plain"), lambda: gcs.delete("a")):
        server.faults.extend([("", answer_status(status))] * 20)
        with pytest.raises(kind) as caught:
            call()
        assert type(caught.value) is kind
        assert "gs://test-bucket/a" in caught.value.message
        if status == 403:
            assert "Storage Object Admin" in caught.value.hint
        server.faults.clear()


def test_a_passing_fault_is_not_seen(server: BucketServer) -> None:
    server.faults.append(("GET", answer_status(503)))
    assert open_at(server, retry_seconds=10).stat("a") is None


def test_a_server_that_is_not_there_is_unavailable(server: BucketServer) -> None:
    gcs = open_at(server)
    server.faults.extend([("", hang_up)] * 50)
    with pytest.raises(StorageUnavailable):
        gcs.stat("a")
    with pytest.raises(StorageUnavailable):
        gcs.ping()


def test_what_is_not_there_is_object_missing(gcs: GoogleCloudStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing):
        gcs.require("a")
    with pytest.raises(ObjectMissing), gcs.local_copy("a", tmp_path):
        pass


def test_a_bucket_that_does_not_exist_is_said(server: BucketServer) -> None:
    gcs = open_at(server, bucket="no-such")
    for call in (lambda: gcs.stat("a"), lambda: gcs.put_bytes("a", b"", "text/plain"), lambda: list(gcs.list("a"))):
        with pytest.raises(StorageError, match="no-such does not exist"):
            call()
    with pytest.raises(StorageUnavailable, match="no-such does not exist"):
        gcs.ping()


def test_cloud_urls_lead_back_to_names(gcs: GoogleCloudStore) -> None:
    assert gcs.cloud_url("videos/a/ü.mp4") == "gs://test-bucket/videos/a/ü.mp4"
    assert gcs.name_of("gs://test-bucket/videos/a/ü.mp4") == "videos/a/ü.mp4"
    for url in ("gs://other/a", "file:///a", "gs://test-bucket/", "gs://test-bucket/../a"):
        with pytest.raises(StorageError):
            gcs.name_of(url)


def test_google_is_not_imported_for_a_directory() -> None:
    code = "import sys, videomoments_dagster.storage.factory; sys.exit('google' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
