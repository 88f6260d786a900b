"""Whoever is not root may be it in a user namespace of their own, where the kernel allows that."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.hosts.network import Network
from videomoments_dagster.stack.identity import Identity

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_user_who_is_not_root_tests_across_hosts_in_a_user_namespace(tmp_path: Path) -> None:
    with suppress(PermissionError):
        Network("hub").close()
        pytest.skip("this user needs no user namespace: the tests beside this one make their networks themselves")
    allowed = _as_root("-c", "from tests.hosts.network import Network; Network('hub').close()")
    if allowed.returncode:
        pytest.skip(f"the kernel allows no networks, nor user namespaces to make them: {allowed.stderr.strip()[-200:]}")
    tests = [str(path) for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    tests.append(str(ROOT / "tests" / "defs" / "test_disk_full.py"))
    done = _as_root("-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/inside", *tests)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout.splitlines()[-1]


def _as_root(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """This Python, as root in a user namespace, with a network that belongs to it."""
    inside = [sys.executable, "-m", "tests.hosts.network", sys.executable, *arguments]
    command = Identity(options=("--namespace", "0")).command(inside, death_signal=9)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
