"""Child processes: typed errors, limits, and nothing left behind. The children are real: tests/child_operations.py."""

import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from videomoments_dagster.errors import DiskFull, MediaCrashed, MediaKilled, MediaTimeout, NotAVideo
from videomoments_dagster.processes import run_child

CHILD = "tests.child_operations"


def _run(operation: str, timeout_seconds: float = 20, memory_bytes: int = 1 << 30, on_progress=None, **arguments):
    request = {"operation": operation, "arguments": arguments}
    return run_child(
        CHILD, request, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes, on_progress=on_progress
    )


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_answers_and_reports_progress() -> None:
    seen: list[float] = []
    assert _run("count", on_progress=seen.append, to=4) == {"counted": 4}
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_what_a_native_library_prints_does_not_reach_the_answer() -> None:
    assert _run("noisy") == "clean"


def test_a_typed_error_crosses_the_pipe_with_its_hint() -> None:
    with pytest.raises(NotAVideo) as caught:
        _run("refuse")
    assert (caught.value.message, caught.value.hint) == ("talk.mp4 is a cake recipe.", "Bake it.")


def test_a_full_disk_in_the_child_is_a_full_disk_here() -> None:
    with pytest.raises(DiskFull):
        _run("full_disk")


@pytest.mark.parametrize(("operation", "how"), [("segfault", "SIGSEGV"), ("leave", "exit code 3")])
def test_a_child_that_dies_is_a_crash_that_says_how(operation: str, how: str) -> None:
    with pytest.raises(MediaCrashed, match=how):
        _run(operation)


def test_a_child_that_somebody_killed_may_be_tried_again() -> None:
    with pytest.raises(MediaKilled, match="SIGKILL") as caught:
        _run("be_killed")
    assert caught.value.retryable


def test_memory_is_limited() -> None:
    with pytest.raises(MediaCrashed):
        _run("allocate", memory_bytes=400 << 20, size_bytes=1 << 30)


def test_a_child_that_hangs_is_killed_with_its_own_children(tmp_path: Path) -> None:
    with pytest.raises(MediaTimeout):
        _run("hang", timeout_seconds=1.0, pids=str(tmp_path / "pids"))
    child, grandchild = map(int, (tmp_path / "pids").read_text().split())
    assert not _alive(child)
    assert not _alive(grandchild)


def test_an_exception_in_the_parent_kills_the_child(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(_: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        _run("report_then_hang", on_progress=stop, pids=str(tmp_path / "pid"))
    assert not _alive(int((tmp_path / "pid").read_text()))


_ABANDONED = """
import sys
from videomoments_dagster.processes import run_child
request = {"operation": "report_then_hang", "arguments": {"pids": sys.argv[1]}}
show = lambda _: print(flush=True)
run_child("tests.child_operations", request, timeout_seconds=60, memory_bytes=1 << 30, on_progress=show)
"""


def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    """No `finally` runs then: a recognizer once worked on beside the run that
    replaced its own."""
    parent = subprocess.Popen([sys.executable, "-c", _ABANDONED, str(tmp_path / "pid")], stdout=subprocess.PIPE)
    assert parent.stdout
    with parent, parent.stdout:
        parent.stdout.readline()  # the child has reported
        child = os.pidfd_open(int((tmp_path / "pid").read_text()))
        parent.kill()
    try:
        assert select.select([child], [], [], 10)[0]  # readable: it has ended
    finally:
        os.close(child)


def test_children_run_side_by_side_from_threads() -> None:
    answers: list[dict[str, int]] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(_run("count", to=n))) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["counted"] for answer in answers) == [1, 2, 3, 4]


def test_no_descriptor_is_leaked() -> None:
    _run("count", to=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        _run("count", to=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
