"""What the embedded servers have in common: a directory, a password and a port kept in it, and how a start can fail.

Loopback only. A server is ready when it answers its own protocol.
"""

import os
import secrets
import subprocess
import time
from abc import abstractmethod
from pathlib import Path

from videomoments_dagster.errors import DiskFull, ServiceUnavailable
from videomoments_dagster.stack.child import Child
from videomoments_dagster.stack.files import last_lines, read_json, write_private_json
from videomoments_dagster.stack.identity import OURSELVES, Identity
from videomoments_dagster.stack.ports import free_port, is_free

START_SECONDS = 120.0  # recovery after a crash replays the log first
_BEAT_SECONDS = 0.02


class EmbeddedServer(Child):
    """One server on its directory. Two objects must not start the same directory: the supervisor's lock sees to it."""

    grace_seconds = 15.0

    def __init__(self, directory: Path, *, log: Path | None = None) -> None:
        self.directory = directory.absolute()
        self.log = log or self.directory / "server.log"
        self.port = 0
        self.password = ""

    @property
    @abstractmethod
    def url(self) -> str:
        """Address with user and password, as the clients of this server take it."""

    @property
    @abstractmethod
    def data(self) -> Path:
        """Where the server keeps its data, and works."""

    @abstractmethod
    def evict(self) -> None:
        """Stop what an earlier, killed supervisor left running on the data. Nothing happens when there is none."""

    @abstractmethod
    def prepare(self) -> None:
        """Bring the data into a state the server starts from. Safe to repeat and to kill half-way."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's program and arguments."""

    def identity(self) -> Identity:
        return OURSELVES

    def start(self) -> str:
        """Start the server and return its URL once it answers. Raises ServiceUnavailable with the end of its log."""
        self.begin()
        assert self.process is not None  # noqa: S101  # begun just before
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            try:
                self.process.wait(_BEAT_SECONDS)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            raise self.failed()
        return self.url

    def begin(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.evict()
        self._recall()
        self.prepare()
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        self.spawn(self.command(), environment, identity=self.identity(), cwd=self.data)

    def failed(self) -> ServiceUnavailable | DiskFull:
        """Stop the server and say why it did not start."""
        self.stop()
        end = last_lines(self.log)
        if "No space left on device" in end:
            return DiskFull(f"{self.name} could not start in {self.directory}: the disk is full.")
        return ServiceUnavailable(f"{self.name} did not start.\n{end}", hint=f"Its log is {self.log}.")

    def _recall(self) -> None:
        """Password and port of earlier starts; new ones at the first, a new port when somebody has taken ours.

        A restart inside one supervisor keeps the port whatever happens: the other children know it already.
        """
        if self.port:
            return
        file = self.directory / "credentials.json"
        kept = read_json(file)
        self.password = str(kept.get("password") or secrets.token_urlsafe(24))
        port = int(kept.get("port") or 0)
        self.port = port if port and is_free(port) else free_port()
        write_private_json(file, {"password": self.password, "port": self.port})
