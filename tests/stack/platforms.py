"""A platform as its users have it: started by the command line in a directory of its own, seen from outside."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.files import read_json, write_private_json
from videomoments_dagster.stack.ports import free_port
from videomoments_dagster.stack.process_table import holders, marked

_SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}


class Platform:
    """Commands run with VIDEOMOMENTS_HOME set to `home`, and `configured` on top. Unless `usual_ports`, it has ports of
    its own from the start, so that another platform on this machine can't come between."""

    def __init__(self, home: Path, *, usual_ports: bool = False, **configured: str) -> None:
        self.home = home
        if not usual_ports:
            write_private_json(home / "ports.json", {"api": free_port(), "dagster": free_port()})
        clean = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
        self.environment = clean | {"VIDEOMOMENTS_HOME": str(home)} | configured

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            _argv(*arguments), env=self.environment | environment, capture_output=True, text=True, timeout=120
        )

    def up(self, *arguments: str) -> dict[str, Any]:
        """Start detached; what the platform wrote down."""
        done = self.run("up", "--detach", *arguments)
        assert done.returncode == 0, done.stderr
        return self.connections()

    def down(self) -> None:
        done = self.run("down")
        assert done.returncode == 0, done.stderr
        assert self.processes() == []

    @contextmanager
    def watched(self, *arguments: str) -> Iterator["Watched"]:
        """Start in the foreground and follow what it says; stopped by Ctrl-C at the end."""
        with subprocess.Popen(
            _argv("up", *arguments), env=self.environment, stderr=subprocess.PIPE, text=True
        ) as process:
            watched = Watched(process)
            try:
                watched.until("Ctrl-C stops it")
                yield watched
            finally:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=60)
        assert process.returncode in {0, -signal.SIGKILL}
        assert self.processes() == []

    def connections(self) -> dict[str, Any]:
        return read_json(self.home / "connections.json")

    def processes(self) -> list[psutil.Process]:
        """Every live process of this platform: children, their children, servers."""
        servers = [holder for name in ("postgres/cluster", "redis/data") for holder in holders(self.home / name)]
        return [*marked(self.home), *servers]


class Watched:
    """What a platform in the foreground says."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def until(self, text: str) -> str:
        """Read on until a line holds `text`; that line."""
        assert self.process.stderr
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not said, but:\n{''.join(seen)}")


def _argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "videomoments_dagster.cli.main", *arguments]
