"""Several writers at once, and writers that are killed at any moment: an object is old or new, and whole."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.storage.conftest import md5_of
from videomoments_dagster.storage.directory import DirectoryStore

WRITER = """
import sys
from pathlib import Path
from videomoments_dagster.storage.directory import DirectoryStore
root, names, rounds = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
store = DirectoryStore(root, b"key", "http://x")
print("ready", flush=True)
for i in range(rounds):
    for name in names:
        body = bytes([65 + i % 26]) * (200_000 + i % 26)
        store.put_bytes(name, body, "text/" + chr(97 + i % 26))
        if i % 7 == 6:
            store.delete(name)
"""


def start_writer(root: Path, names: str, rounds: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(root), names, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def assert_whole(store: DirectoryStore, name: str) -> None:
    found = store.stat(name)
    if found is None:
        return
    body = store.path(name).read_bytes()
    assert found.size_bytes == len(body)
    assert found.md5 == md5_of(body)
    assert found.content_type == f"text/{chr(body[0] + 32)}"
    assert body == body[:1] * (200_000 + body[0] - 65)


def test_a_writer_killed_at_any_moment_leaves_whole_objects(store: DirectoryStore, root: Path) -> None:
    for _ in range(12):
        writer = start_writer(root, "a/1,b/2", 100_000)
        assert writer.stdout and writer.stdout.readline() == "ready\n"
        threading.Event().wait(random.uniform(0.005, 0.08))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert_whole(store, "a/1")
        assert_whole(store, "b/2")
        store.put_bytes("c/3", b"A" * 200_000, "text/a")  # the lock died with its owner
    temp = root / ".store" / "temp"
    for leftover in temp.iterdir():
        os.utime(leftover, (0, 0))
    store.put_bytes("c/3", b"A" * 200_000, "text/a")
    assert list(temp.iterdir()) == []


def test_readers_never_meet_a_half_written_object(store: DirectoryStore, root: Path) -> None:
    writers = [start_writer(root, "a/1", 60) for _ in range(3)]
    seen = 0
    deadline = time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        found = store.stat("a/1")
        if found:
            seen += 1
            assert found.size_bytes == 200_000 + ord(found.content_type[-1]) - 97
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    for writer in writers:
        assert writer.stdout
        writer.stdout.close()
    assert seen
    assert_whole(store, "a/1")


def test_threads_that_write_and_delete_the_same_objects_agree(store: DirectoryStore, root: Path) -> None:
    def work(number: int) -> None:
        for i in range(15):
            letter = (number + i) % 26
            store.put_bytes("a/b/1", bytes([65 + letter]) * (200_000 + letter), f"text/{chr(97 + letter)}")
            if i % 3 == 0:
                store.delete("a/b/1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert_whole(store, "a/b/1")
    assert list((root / ".store" / "temp").iterdir()) == []
