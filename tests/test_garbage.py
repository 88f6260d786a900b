"""Garbage is looked for seldom while a process imports, and as often as Python does once it works."""

import gc
import subprocess
import sys


def test_a_process_that_was_started_quickly_is_as_thorough_as_any_other_afterwards() -> None:
    usual = gc.get_threshold()
    code = (
        "import gc, sys\n"
        "from videomoments_dagster import garbage\n"
        "from videomoments_dagster.stack import start\n"
        "sys.argv[1:] = ['this']\n"
        "start.main()\n"
        "print(gc.get_threshold()[0] > 10_000, file=sys.stderr)\n"
        "garbage.as_usual()\n"
        "print(gc.get_threshold(), file=sys.stderr)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stderr == f"True\n{usual}\n"
