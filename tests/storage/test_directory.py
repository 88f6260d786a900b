import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.storage.conftest import md5_of
from videomoments_dagster.errors import DiskFull, ObjectMissing, StorageError, StorageUnavailable
from videomoments_dagster.settings import Settings
from videomoments_dagster.storage import directory as directory_module
from videomoments_dagster.storage.directory import DirectoryStore
from videomoments_dagster.storage.factory import open_store


def temp_files(root: Path) -> list[Path]:
    return list((root / ".store" / "temp").iterdir())


def test_a_stored_file_is_read_back_with_its_size_md5_and_type(store: DirectoryStore, tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(b"frames" * 500_000)
    stored = store.put_file("videos/a/a.mp4", source, "video/mp4")
    assert (stored.size_bytes, stored.md5, stored.content_type) == (3_000_000, md5_of(source.read_bytes()), "video/mp4")
    assert store.stat("videos/a/a.mp4") == store.require("videos/a/a.mp4") == stored
    with store.local_copy("videos/a/a.mp4", tmp_path) as path:
        assert path.read_bytes() == source.read_bytes()
    assert source.exists(), "the caller's file stays the caller's"
    assert source.stat().st_ino != store.path("videos/a/a.mp4").stat().st_ino


def test_a_file_that_is_final_is_shared_where_that_can_be_and_copied_where_not(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(b"frames" * 1000)
    source.chmod(0o600)
    os.utime(source, (0, 0))
    for _ in range(2):  # again, as after a process that died: it is that file already
        stored = store.put_file("videos/a/a.mp4", source, "video/mp4", is_final=True)
        assert (stored.size_bytes, stored.md5) == (6000, md5_of(source.read_bytes()))
        assert store.require("videos/a/a.mp4") == stored
    assert source.stat().st_ino == store.path("videos/a/a.mp4").stat().st_ino
    assert store.path("videos/a/a.mp4").stat().st_mode & 0o777 == 0o644
    assert temp_files(root) == []

    def another_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", another_disk)
    assert (
        store.put_file("videos/b/b.mp4", source, "video/mp4", is_final=True).md5 == store.require("videos/a/a.mp4").md5
    )
    assert source.stat().st_ino != store.path("videos/b/b.mp4").stat().st_ino


def test_an_overwrite_replaces_content_and_raises_the_generation(store: DirectoryStore) -> None:
    generations = [store.put_bytes("a/x", bytes([i]), "text/plain").generation for i in range(20)]
    assert generations == sorted(set(generations))
    assert store.path("a/x").read_bytes() == b"\x13"
    assert store.require("a/x").md5 == md5_of(b"\x13")


def test_what_is_not_there_is_none_or_object_missing(store: DirectoryStore, tmp_path: Path) -> None:
    assert store.stat("a/b") is None
    assert store.delete("a/b") is False
    with pytest.raises(ObjectMissing):
        store.require("a/b")
    with pytest.raises(ObjectMissing), store.local_copy("a/b", tmp_path):
        pass


def test_deleting_removes_the_file_its_sidecar_and_the_empty_folders(store: DirectoryStore, root: Path) -> None:
    store.put_bytes("clips/a/1.mp4", b"1", "video/mp4")
    store.put_bytes("clips/b/1.mp4", b"2", "video/mp4")
    assert store.delete("clips/a/1.mp4") is True
    assert store.stat("clips/a/1.mp4") is None
    assert sorted(path.name for path in (root / "clips").iterdir()) == ["b"]
    assert len(list((root / ".store" / "sidecars").rglob("*.json"))) == 1


def test_listing_is_by_prefix_and_in_order(store: DirectoryStore) -> None:
    for name in ("clips/a/2.mp4", "clips/a/1.mp4", "clips/ab/1.mp4", "videos/a/a.mp4"):
        store.put_bytes(name, name.encode(), "video/mp4")
    assert [each.name for each in store.list("clips/a/")] == ["clips/a/1.mp4", "clips/a/2.mp4"]
    assert [each.name for each in store.list("clips/a")] == ["clips/a/1.mp4", "clips/a/2.mp4", "clips/ab/1.mp4"]
    assert len(list(store.list(""))) == 4
    assert list(store.list("nothing/here/")) == []


def test_listing_orders_whole_names_as_a_bucket_does_and_bears_deletions_meanwhile(store: DirectoryStore) -> None:
    names = ["clips/a-b/1", "clips/a/1", "clips/a/2/x", "clips/a/20", "clips/a0/1", "clips/b/1"]
    for name in names:
        store.put_bytes(name, b"", "text/plain")
    assert [each.name for each in store.list("clips/")] == names == sorted(names)
    seen = []
    for each in store.list("clips/"):
        seen.append(each.name)
        store.delete(each.name)
        store.delete("clips/a/2/x")
    assert seen == [name for name in names if name != "clips/a/2/x"]


def test_an_object_tells_when_it_was_written(store: DirectoryStore) -> None:
    before = datetime.now(UTC)
    assert before <= store.put_bytes("a", b"1", "text/plain").updated_at <= datetime.now(UTC)
    assert store.require("a").updated_at < store.put_bytes("a", b"2", "text/plain").updated_at


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        ".",
        "..",
        "../x",
        "a/../x",
        "a/./x",
        "a//x",
        "a/",
        "a\0b",
        "a\\b",
        "x" * 256,
        "a/" * 512 + "a",
        ".store/lock",
    ],
)
def test_a_name_that_could_leave_the_store_is_refused_by_every_method(store: DirectoryStore, name: str) -> None:
    calls = [
        lambda: store.put_bytes(name, b"", "text/plain"),
        lambda: store.put_file(name, Path(__file__), "text/plain"),
        lambda: store.stat(name),
        lambda: store.delete(name),
        lambda: store.cloud_url(name),
        lambda: store.signed_url(name),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="can't name an object"):
            call()


def test_a_cloud_url_is_the_readable_file_and_leads_back_to_the_name(store: DirectoryStore) -> None:
    name = "videos/a/with space & ümlaut.mp4"
    store.put_bytes(name, b"bytes", "video/mp4")
    url = store.cloud_url(name)
    assert url.startswith("file:///")
    with urlopen(url) as file:
        assert file.read() == b"bytes"
    assert store.name_of(url) == name


@pytest.mark.parametrize("url", ["gs://bucket/a", "file:///etc/passwd", "file://host/a", "a", ""])
def test_another_stores_url_is_refused(store: DirectoryStore, url: str) -> None:
    with pytest.raises(StorageError, match="is not in the object store"):
        store.name_of(url)


def test_a_url_can_not_climb_out_of_the_store(store: DirectoryStore, root: Path) -> None:
    with pytest.raises(StorageError):
        store.name_of(f"{root.as_uri()}/../secret")


def test_a_file_that_was_restored_or_edited_by_hand_is_measured_again(store: DirectoryStore) -> None:
    before = store.put_bytes("a/x.txt", b"before", "text/x-special")
    store.path("a/x.txt").write_bytes(b"after!!")
    after = store.require("a/x.txt")
    assert (after.md5, after.size_bytes, after.content_type) == (md5_of(b"after!!"), 7, "text/x-special")
    assert after.generation > before.generation
    store.path("a/new.mp4").write_bytes(b"by hand")
    assert store.require("a/new.mp4").content_type == "video/mp4"


def test_a_sidecar_cut_off_by_a_power_loss_is_made_again(store: DirectoryStore, root: Path) -> None:
    store.put_bytes("a/x.txt", b"content", "text/plain")
    for sidecar in (root / ".store" / "sidecars").rglob("*.json"):
        sidecar.write_text('[{"na')
    assert store.require("a/x.txt").md5 == md5_of(b"content")


def test_names_that_are_file_and_folder_at_once_are_an_error_and_change_nothing(store: DirectoryStore) -> None:
    store.put_bytes("a", b"file", "text/plain")
    with pytest.raises(StorageError):
        store.put_bytes("a/b", b"below it", "text/plain")
    assert store.stat("a/b") is None
    store.put_bytes("c/d", b"1", "text/plain")
    with pytest.raises(StorageError):
        store.put_bytes("c", b"above it", "text/plain")
    assert [each.name for each in store.list("")] == ["a", "c/d"]


def test_a_source_that_is_not_there_is_a_storage_error(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't be read"):
        store.put_file("a/x", tmp_path / "missing", "text/plain")


def test_a_full_disk_is_named_and_leaves_the_old_object(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_bytes("a/x", b"old", "text/plain")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(directory_module.os, "fsync", full)
    with pytest.raises(DiskFull, match="No space left"):
        store.put_bytes("a/x", b"new", "text/plain")
    monkeypatch.undo()
    assert store.require("a/x").md5 == md5_of(b"old")
    assert temp_files(root) == []


def test_leftovers_of_killed_writers_are_swept_but_not_those_being_written(store: DirectoryStore, root: Path) -> None:
    store.ping()
    stale, fresh = root / ".store" / "temp" / "stale", root / ".store" / "temp" / "fresh"
    stale.touch()
    fresh.touch()
    two_hours_ago = time.time() - 7200
    os.utime(stale, (two_hours_ago, two_hours_ago))
    list(store.list(""))
    assert temp_files(root) == [fresh]


def test_an_unusable_root_fails_the_ping(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises((StorageError, StorageUnavailable)):
        DirectoryStore(blocked / "objects", b"key", "http://x").ping()


def test_without_a_bucket_the_settings_mean_a_directory_in_the_home(tmp_path: Path) -> None:
    store = open_store(Settings.model_validate({"VIDEOMOMENTS_HOME": tmp_path}))  # pyright: ignore[reportCallIssue]
    assert store.cloud_url("a/b") == (tmp_path / "objects" / "a" / "b").as_uri()
    store.ping()
