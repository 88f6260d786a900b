"""A platform's data directory: who runs in it, where it answers, and how to stop it from outside.

The lock is held by the supervisor for all its life and let go by the kernel when it dies, however it dies. What is in
the directories below belongs to the services.
"""

import fcntl
import json
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
from pydantic import SecretStr

from videomoments_dagster.errors import NO_SPACE, Conflict, DiskFull, ServiceUnavailable
from videomoments_dagster.stack.files import read_json
from videomoments_dagster.stack.postgres import EmbeddedPostgres
from videomoments_dagster.stack.process_table import kill_all, marked, wait_gone
from videomoments_dagster.stack.redis import EmbeddedRedis

STOP_SECONDS = 45.0
_DAGSTER_YAML = Path(__file__).resolve().parents[2] / "dagster.yaml"


@dataclass(frozen=True, slots=True)
class Home:
    """The layout of `VIDEOMOMENTS_HOME`."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "supervisor.json"

    @property
    def connections(self) -> Path:
        return self.path / "connections.json"

    @property
    def ports(self) -> Path:
        return self.path / "ports.json"

    @property
    def dagster(self) -> Path:
        return self.path / "dagster"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.path / "postgres", log=self.logs / "postgresql.log")

    def redis(self) -> EmbeddedRedis:
        return EmbeddedRedis(self.path / "redis", log=self.logs / "redis.log")

    def is_embedded(self, url: SecretStr | None) -> bool:
        """Whether `url` is unset, or one of our own servers': a shell that took on `videomoments env` sets those."""
        if url is None:
            return True
        kept = [read_json(self.path / name / "credentials.json").get("password") for name in ("postgres", "redis")]
        return any(password and f":{password}@127.0.0.1:" in url.get_secret_value() for password in kept)

    def make(self) -> None:
        """Make the directories, and give Dagster its instance file. Raises ServiceUnavailable, DiskFull."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            self.dagster.mkdir(exist_ok=True)
            shutil.copyfile(_DAGSTER_YAML, self.dagster / "dagster.yaml")
        except OSError as error:
            if error.errno in NO_SPACE:
                raise DiskFull(f"No space left in {self.path}.") from error
            raise ServiceUnavailable(
                f"The data directory {self.path} can't be used: {error.strerror}.",
                hint="Point VIDEOMOMENTS_HOME to a directory you can write.",
            ) from error

    def owner(self) -> psutil.Process | None:
        """The live supervisor of this home."""
        noted = read_json(self.lock)
        with suppress(KeyError, psutil.NoSuchProcess):
            process = psutil.Process(int(noted["pid"]))
            same = abs(process.create_time() - float(noted["started"])) < 1
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def acquire(self) -> IO[str]:
        """Become the supervisor: keep what is returned open for as long. Raises Conflict when there is one already."""
        holder = self._lock()
        me = psutil.Process()
        holder.truncate(0)
        holder.write(json.dumps({"pid": me.pid, "started": me.create_time()}))
        holder.flush()
        return holder

    def addresses(self) -> str:
        """Where a running platform answers, for people; empty when it does not say."""
        noted = self.running()
        known = {"API": noted.get("api_url"), "Dagster": noted.get("dagster_url")}
        return ", ".join(f"{name} {url}" for name, url in known.items() if url)

    def running(self) -> dict[str, Any]:
        """What a ready platform wrote down; empty when none is ready."""
        return read_json(self.connections) if self.owner() else {}

    def clear(self) -> int:
        """Stop all that an earlier supervisor left. Returns how many processes there were. Only under the lock."""
        self.connections.unlink(missing_ok=True)
        count = kill_all(marked(self.path))
        self.postgres().evict()
        self.redis().evict()
        return count

    def stop(self, *, grace_seconds: float = 0.0) -> bool:
        """Stop the platform in this home and wait for its end. Returns whether one was running.

        `grace_seconds` is what its worker has for runs at work, on top of what everything else needs.
        """
        owner = self.owner()
        if owner is not None:
            with suppress(psutil.NoSuchProcess):
                owner.send_signal(signal.SIGTERM)
                kill_all(wait_gone([owner], timeout_seconds=STOP_SECONDS + grace_seconds))
        if not self.path.exists():
            return False
        with self._lock():
            return self.clear() > 0 or owner is not None

    def _lock(self) -> IO[str]:
        holder = self.lock.open("a")
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder.close()
            where = self.addresses()
            raise Conflict(
                f"A platform already runs in {self.path}: " + (where or "it is just starting or stopping."),
                hint="Stop it with `videomoments down`, or give another one its own VIDEOMOMENTS_HOME.",
            ) from None
        return holder
