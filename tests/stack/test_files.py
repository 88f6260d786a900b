"""Logs do not grow for ever, while those who write them go on."""

import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from videomoments_dagster.stack import files


def test_a_long_log_is_set_aside_under_the_process_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LONGEST_LOG_BYTES", 5)
    log = tmp_path / "logs" / "api.log"
    code = "import sys; print('before', flush=True); sys.stdin.readline(); print('after', flush=True)"
    with files.open_log(log) as output:
        process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=output)
    while b"before\n" not in log.read_bytes():
        assert process.poll() is None
        Event().wait(0.01)
    files.rotate(log)
    process.communicate(b"\n", timeout=10)
    assert (log.read_text(), log.with_name("api.log.1").read_text()) == ("after\n", "before\n")
    files.rotate(tmp_path / "none.log")
