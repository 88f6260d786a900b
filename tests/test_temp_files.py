"""Temporary directories: gone afterwards, with those of killed processes; never taken from who works in them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from videomoments_dagster.disk_usage import Amount
from videomoments_dagster.errors import DiskFull, InvalidIdentifier, MediaDamaged, SourceNotFound, StorageUnavailable
from videomoments_dagster.temp_files import DOWNLOADS, RESUME, UNUSED_SECONDS, UPLOADS, TempFiles

MEGABYTE = 1_000_000
WORKER = """
import os, sys, time
from pathlib import Path
from videomoments_dagster.temp_files import TempFiles
root, purpose, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with TempFiles(root, 10**9).directory(purpose, "talk") as directory:
    (directory / "audio.wav").write_bytes(b"sound")
    if what == "fork":
        child = os.fork()
        if not child:
            os.setsid()
            print(os.getpid(), flush=True)
            sys.stdout.close()
            time.sleep(60)
        time.sleep(60)
    elif what == "forked child ends":
        if not os.fork():
            sys.exit()  # through every `finally` of its parent's
        os.wait()
    else:
        (directory / "resume.json").write_text("{}")
    print("ready", directory, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "temp"


@pytest.fixture
def temp(root: Path) -> TempFiles:
    return TempFiles(root, kept_bytes=10 * MEGABYTE)


@contextmanager
def _elsewhere(root: Path, purpose: str = "audio", what: str = "") -> Iterator["subprocess.Popen[str]"]:
    """Another process works in a directory; it is killed at the end."""
    command = [sys.executable, "-c", WORKER, str(root), purpose, what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _read(process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout
    return process.stdout.readline().split()


def _set_aside(temp: TempFiles, video: str, size_bytes: int, age_seconds: float = 0.0) -> Path:
    """A download whose store did not answer."""
    with suppress(StorageUnavailable), temp.resumable(DOWNLOADS, video) as directory:
        (directory / "source").write_bytes(b"x" * size_bytes)
        (directory / RESUME).write_text("{}")
        raise StorageUnavailable("The store answers 503.")
    _make_old(directory, age_seconds)
    return directory


def _make_old(directory: Path, age_seconds: float) -> None:
    at = time.time() - age_seconds
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (at, at), follow_symlinks=False)


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_directory_is_gone_afterwards_with_the_empty_ones_above_it(temp: TempFiles, root: Path) -> None:
    with pytest.raises(ZeroDivisionError), temp.directory("audio", "talk") as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "audio.wav").touch()
        assert directory.parent == root / "audio" / "talk"
        raise ZeroDivisionError
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "..", "", "a/b"])
def test_a_name_that_could_lead_out_of_the_temp_folder_is_refused(temp: TempFiles, root: Path, name: str) -> None:
    (root / "audio").mkdir(parents=True)
    with pytest.raises(InvalidIdentifier), temp.directory("audio", name):
        pass
    with pytest.raises(InvalidIdentifier), temp.resumable("audio", name):
        pass
    with pytest.raises(InvalidIdentifier):
        temp.remove_video(name)


def test_what_a_killed_process_left_goes_at_once_and_never_before(temp: TempFiles, root: Path) -> None:
    """Even a directory that was not written to for a week: its process may wait for a model."""
    with _elsewhere(root, "video", "fork") as process:
        orphan = int(_read(process)[0])
        _make_old(next((root / "video" / "talk").iterdir()), 7 * UNUSED_SECONDS)
        assert temp.clean() == temp.remove_video("talk") == Amount()
        assert temp.stats().all.in_use == 1
        process.kill()
        process.wait()
        os.kill(orphan, 0)  # a child that it forked lives on, and does not count
        assert temp.clean() == Amount(1, 1, 5)
        os.kill(orphan, 9)
    assert list(root.iterdir()) == []


def test_a_forked_child_that_ends_leaves_its_parents_directory(temp: TempFiles, root: Path) -> None:
    with _elsewhere(root, "audio", "forked child ends") as process:
        _, directory = _read(process)
        assert Path(directory, "audio.wav").exists()
        assert temp.clean() == Amount()


def test_what_somebody_works_with_is_removed_only_when_told(temp: TempFiles, root: Path) -> None:
    kept = _set_aside(temp, "talk", 7)
    with _elsewhere(root) as process, temp.directory("audio", "talk2") as others:
        _read(process)
        assert temp.remove_video("talk") == Amount(1, 2, 9)
        assert not kept.exists()
        assert temp.remove_video("talk", in_use=True) == Amount(1, 2, 7)
        assert others.is_dir()
    assert temp.remove_video("talk") == Amount()


def test_an_attempt_goes_on_with_what_the_one_before_left(temp: TempFiles, root: Path) -> None:
    first = _set_aside(temp, "talk", 7)
    with pytest.raises(KeyboardInterrupt), temp.resumable(DOWNLOADS, "talk") as second:
        assert second == first
        assert (second / "source").stat().st_size == 7
        with temp.resumable(DOWNLOADS, "talk") as beside:
            assert beside != first, "who works there is left alone"
        raise KeyboardInterrupt
    assert temp.clean() == Amount()
    with temp.resumable(DOWNLOADS, "talk") as third:
        assert third == first
    assert list(root.iterdir()) == [], "it is done"


@pytest.mark.parametrize("error", [MediaDamaged("cut"), SourceNotFound("404"), StorageUnavailable("503")])
def test_what_is_no_good_or_can_not_be_gone_on_with_does_not_stay(
    temp: TempFiles, root: Path, error: Exception
) -> None:
    with pytest.raises(type(error)), temp.resumable(DOWNLOADS, "talk") as directory:
        (directory / "source").touch()
        if not isinstance(error, StorageUnavailable):
            (directory / RESUME).touch()
        raise error
    assert list(root.iterdir()) == []


def test_what_is_kept_goes_when_it_is_a_day_old_or_too_much_the_oldest_first(temp: TempFiles) -> None:
    _set_aside(temp, "stale", 1, UNUSED_SECONDS + 60)
    assert temp.clean() == Amount(1, 2, 3)
    oldest, newest, middle = (_set_aside(temp, f"v{age}", 4 * MEGABYTE, age_seconds=60.0 * age) for age in (3, 1, 2))
    assert not oldest.exists(), "the bound holds whenever something is set aside"
    assert temp.clean() == Amount()
    _set_aside(temp, "v0", 3 * MEGABYTE)
    assert (newest.exists(), middle.exists()) == (True, False)


def test_a_full_disk_takes_what_is_kept_but_not_what_is_worked_with(temp: TempFiles) -> None:
    kept = _set_aside(temp, "kept", 5)
    with pytest.raises(DiskFull), temp.resumable(DOWNLOADS, "talk") as directory:
        (directory / RESUME).touch()
        raise DiskFull("No space.")
    assert directory.exists()
    assert not kept.exists()


def test_what_is_parked_stays_until_its_resume_file_goes_or_a_day_passes(temp: TempFiles, root: Path) -> None:
    with pytest.raises(FileNotFoundError), temp.parked(UPLOADS, "one"):
        pass
    with temp.parked(UPLOADS, "one", create=True) as directory:
        (directory / RESUME).touch()
        with pytest.raises(BlockingIOError), temp.parked(UPLOADS, "one"):
            pass
    assert (temp.find_parked(UPLOADS, "one"), list(temp.all_parked(UPLOADS))) == (directory, [directory])
    with pytest.raises(ZeroDivisionError), temp.parked(UPLOADS, "one") as again:
        raise ZeroDivisionError
    with temp.parked(UPLOADS, "one") as again:
        assert again == directory
        (again / RESUME).unlink()
    assert list(root.iterdir()) == []
    with temp.parked(UPLOADS, "two", create=True) as directory:
        (directory / RESUME).touch()
    _make_old(directory, UNUSED_SECONDS + 60)
    assert temp.find_parked(UPLOADS, "two") is None
    with pytest.raises(FileNotFoundError), temp.parked(UPLOADS, "two"):
        pass
    assert list(root.iterdir()) == []


def test_an_upload_does_not_make_room_for_a_download(temp: TempFiles) -> None:
    """It can't be fetched again from here."""
    with temp.parked(UPLOADS, "one", create=True) as upload:
        (upload / "content").write_bytes(b"x" * 11 * MEGABYTE)
        (upload / RESUME).touch()
    kept = _set_aside(temp, "kept", 5)
    with pytest.raises(DiskFull), temp.resumable(DOWNLOADS, "talk"):
        raise DiskFull("No space.")
    assert (upload.exists(), kept.exists()) == (True, False)


def test_what_did_not_come_from_here_has_a_day(temp: TempFiles, root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    for age, name in ((0.0, "young"), (UNUSED_SECONDS + 60.0, "old")):
        directory = root / "video" / name / "host-123-x"
        directory.mkdir(parents=True)
        (directory / "source").write_bytes(b"four")
        (root / "video" / name / "file").touch()
        (root / "video" / name / "link").symlink_to(tmp_path / "elsewhere")
        _make_old(root / "video" / name, age)
    (root / "empty" / "talk").mkdir(parents=True)
    assert temp.clean().directories == 1
    assert {path.name for path in (root / "video").iterdir()} == {"young"}
    assert [path.name for path in root.iterdir()] == ["video"]
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_stats_tell_what_is_there_for_what(temp: TempFiles, root: Path) -> None:
    assert temp.stats().all.amount == Amount()
    _set_aside(temp, "talk", 998, age_seconds=3600)
    with temp.directory("audio", "one"), temp.directory("audio", "two") as directory:
        (directory / "audio.wav").write_bytes(b"sound")
        stats = temp.stats()
    audio, downloads = stats.purposes
    assert (audio.purpose, audio.amount, audio.in_use) == ("audio", Amount(2, 1, 5), 2)
    assert (downloads.purpose, downloads.amount, downloads.in_use) == (DOWNLOADS, Amount(1, 2, 1000), 0)
    assert downloads.oldest_seconds == pytest.approx(3600, abs=60)
    assert (stats.all.amount, stats.all.in_use) == (Amount(3, 3, 1005), 2)
    assert stats.free_bytes > 0


def test_many_who_come_and_go_are_not_disturbed_by_each_other_nor_by_cleaning(temp: TempFiles, root: Path) -> None:
    """A directory must not be removed between its making and its lock, nor its parent while somebody makes another in
    it; and what is only looked at must not seem to be in use: the download would be made again."""
    kept, over = _set_aside(temp, "talk", 5), threading.Event()

    def come_and_go(video: str) -> int:
        for _ in range(80):
            with temp.directory("audio", video) as directory:
                (directory / "audio.wav").touch()
                assert (directory / "audio.wav").exists()
        return 0

    def go_on() -> int:
        for _ in range(80):
            with suppress(StorageUnavailable), temp.resumable(DOWNLOADS, "talk") as directory:
                assert directory == kept
                raise StorageUnavailable("The store answers 503.")
        return 0

    def look() -> int:
        removed = 0
        while not over.is_set():
            assert temp.stats().all.in_use <= 5
            removed += temp.clean().files
        return removed

    with ThreadPoolExecutor(6) as pool:
        looking = pool.submit(look)
        working = [pool.submit(come_and_go, video) for video in ("one", "one", "two", "two")]
        working.append(pool.submit(go_on))
        try:
            assert sum(each.result() for each in working) == 0
        finally:
            over.set()
        assert looking.result() == 0
    assert _files(root) == _files(kept)
