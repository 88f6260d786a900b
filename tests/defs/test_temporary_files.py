"""Temporary directories: gone afterwards, and those of killed processes with them."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from socket import gethostname

from videomoments_dagster.defs.inputs import sweep_leftovers, temp_directory
from videomoments_dagster.defs.resources import PlatformResource


def _ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _leftover(parent: Path, host: str, pid: int) -> Path:
    directory = parent / f"{host}-{pid}-x1y2z3"
    directory.mkdir(parents=True)
    (directory / "source").write_bytes(b"half a video")
    return directory


def test_what_a_killed_worker_left_goes_when_the_stage_starts_again(platform: PlatformResource) -> None:
    temp = platform.settings.temp_directory
    dead = _leftover(temp / "video" / "talk", gethostname(), _ended_process())
    with temp_directory(platform, "video", "talk") as directory:
        assert directory.is_dir() and not dead.exists()
    assert list(temp.iterdir()) == []


def test_directories_of_the_living_and_of_other_machines_stay(platform: PlatformResource) -> None:
    parent = platform.settings.temp_directory / "checks" / "talk"
    kept = {_leftover(parent, gethostname(), os.getpid()), _leftover(parent, "elsewhere", _ended_process())}
    sweep_leftovers(parent.iterdir())
    with temp_directory(platform, "checks", "talk"):
        pass
    assert set(parent.iterdir()) == kept


def test_two_who_come_and_go_do_not_remove_each_others_directories(platform: PlatformResource) -> None:
    """An empty parent must not be removed with what somebody has put into it in the meantime."""
    lost: list[Path | OSError] = []

    def work(video: str) -> None:
        try:
            for _ in range(500):
                with temp_directory(platform, "audio", video) as directory:
                    (directory / "audio.wav").touch()
                    if not (directory / "audio.wav").exists():
                        lost.append(directory)
        except OSError as error:
            lost.append(error)

    threads = [threading.Thread(target=work, args=(video,)) for video in ("one", "one", "two", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
