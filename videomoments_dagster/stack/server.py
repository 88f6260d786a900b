"""What the embedded servers have in common: a password and a port kept in their directory, a child process, a log.

Loopback only. A server is ready when it answers its own protocol, and its life ends with the thread that started it.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from videomoments_dagster.errors import DiskFull, ServiceUnavailable
from videomoments_dagster.stack.files import last_lines, open_log, read_json, write_private_json
from videomoments_dagster.stack.identity import OURSELVES, Identity
from videomoments_dagster.stack.ports import free_port, is_free

_START_SECONDS = 60.0  # recovery after a crash replays the log first
_BEAT_SECONDS = 0.02


class EmbeddedServer(ABC):
    """One server on its directory. Two objects must not start the same directory: the supervisor's lock sees to it."""

    name: str
    stop_signal = signal.SIGTERM
    grace_seconds = 10.0

    def __init__(self, directory: Path, *, log: Path | None = None) -> None:
        self.directory = directory.absolute()
        self.log = log or self.directory / "server.log"
        self.port = 0
        self.password = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Address with user and password, as the clients of this server take it."""

    @abstractmethod
    def prepare(self) -> None:
        """Bring the directory into a state the server starts from. Safe to repeat and to kill half-way."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's program and arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers its protocol now."""

    def identity(self) -> Identity:
        return OURSELVES

    def start(self) -> str:
        """Start the server and return its URL once it answers. Raises ServiceUnavailable with the end of its log."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._recall()
        self.prepare()
        for _ in range(3):  # somebody may take the port between our look and the server's bind
            self._spawn()
            if self._ready():
                return self.url
            if is_free(self.port):
                break
            self._remember(free_port())
        raise self._failed()

    def stop(self) -> None:
        """Stop the server and wait for its end; killed after `grace_seconds`. Safe to repeat."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            try:
                process.wait(self.grace_seconds)
            except subprocess.TimeoutExpired:
                self.kill(process)
        process.wait()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _recall(self) -> None:
        """Password and port of earlier starts; new ones at the first, a new port when somebody has taken ours."""
        kept = read_json(self.directory / "credentials.json")
        self.password = str(kept.get("password") or secrets.token_urlsafe(24))
        port = int(kept.get("port") or 0)
        self._remember(port if port and is_free(port) else free_port())

    def _remember(self, port: int) -> None:
        self.port = port
        write_private_json(self.directory / "credentials.json", {"password": self.password, "port": port})

    def _spawn(self) -> None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        with open_log(self.log) as log:
            self.process = subprocess.Popen(
                self.identity().command(self.command(), death_signal=self.stop_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        assert self.process is not None  # noqa: S101  # spawned just before
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.answers():
                return True
            try:
                self.process.wait(_BEAT_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return False
        return False

    def _failed(self) -> ServiceUnavailable | DiskFull:
        self.stop()
        end = last_lines(self.log)
        if "No space left on device" in end:
            return DiskFull(f"{self.name} could not start in {self.directory}: the disk is full.")
        return ServiceUnavailable(f"{self.name} did not start.\n{end}", hint=f"Its log is {self.log}.")
