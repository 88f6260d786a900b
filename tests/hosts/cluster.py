"""The platform on several hosts, as an operator sets it up: everything but workers on the hub, workers on the others.
They share PostgreSQL, Redis and a bucket, and nothing else: each host has a data directory of its own.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import redis

from tests.hosts.network import Host, Network
from tests.hosts.relay import relaying
from tests.storage.accounts import throw_away_account
from tests.storage.bucket_server import BUCKET, BucketServer, running
from tests.web import Web, serving
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.files import read_json
from videomoments_dagster.stack.postgres import connect

_SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}
_TAKEN = re.compile(r"\[([0-9a-f-]{36})\] received$")
_DROPPED = re.compile(r"^Run ([0-9a-f-]{36}) is .*: this message is dropped")


class Gate:
    """A place in a host's work: a call of the object store. Who arrives there waits until it is opened."""

    def __init__(self, host: Host, call: str) -> None:
        """`call` is the start of 'METHOD path'."""
        self._address, self._call = host.address, call
        self._reached, self._open = Event(), Event()

    def __call__(self, asker: str, call: str) -> None:
        if asker == self._address and call.startswith(self._call):
            self._reached.set()
            self._open.wait(60)

    def wait(self) -> None:
        """Until the host is there."""
        assert self._reached.wait(60), f"{self._address} made no call that starts with {self._call!r}"

    def open(self) -> None:
        self._open.set()


class Cluster:
    """Started in `directory`, which gets a folder for each host. The thread that uses it is on the hub."""

    def __init__(self, network: Network, directory: Path, web: Web, bucket: BucketServer) -> None:
        self.hub, *self.workers = network.hosts
        self.web, self.bucket = web, bucket
        self._directory = directory
        key = directory / "key.json"
        key.write_text(json.dumps(throw_away_account()))
        clean = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
        self._shared = clean | {
            "GCS_BUCKET_NAME": BUCKET,
            "GCS_CREDENTIALS_PATH": str(key),
            "STORAGE_EMULATOR_HOST": bucket.url,
            "VIDEOMOMENTS_ALLOW_PRIVATE_URLS": "1",
            "VIDEOMOMENTS_MAX_CONCURRENT_RUNS": "4",
        }
        self.connections: dict[str, Any] = {}

    def home(self, host: Host) -> Path:
        return self._directory / host.name

    def log(self, host: Host) -> str:
        return self._log(host).read_text()

    def start_hub(self) -> None:
        """Returns when the platform is ready."""
        hub = self._command(self.hub, {"VIDEOMOMENTS_WORKER_PROCESSES": "0"}, "up")
        place = self.home(self.hub) / "connections.json"
        until(lambda: place.exists() or hub.poll() is not None, "the platform is ready")
        assert hub.poll() is None, self.log(self.hub)
        self.connections = read_json(place)

    def ports(self) -> list[int]:
        """Of the servers that the other hosts must reach."""
        found = [urlsplit(self.connections[name]).port for name in ("database_url", "redis_url")]
        return [port for port in found if port]

    def start_worker(self, host: Host) -> None:
        """Returns at once."""
        names = ("database_url", "dagster_database_url", "redis_url")
        urls = {name.upper(): self.connections[name].replace("127.0.0.1", self.hub.address) for name in names}
        self._command(host, urls, "worker", "--concurrency", "2")

    def hosts_of_runs(self) -> dict[str, str]:
        """The host whose worker began each run, by their logs; the last one of those that had the same run."""
        taken = []
        for host in self.workers:
            lines = [json.loads(line) for line in self.log(host).splitlines() if line.startswith("{")]
            dropped = {found[1] for line in lines if (found := _DROPPED.search(line["message"]))}
            begun = [(line["time"], found[1]) for line in lines if (found := _TAKEN.search(line["message"]))]
            taken += [(at, run, host.name) for at, run in begun if run not in dropped]
        return {run: name for _, run, name in sorted(taken)}

    def rows(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """`database` is 'database' or 'dagster_database'."""
        with closing(connect(self.connections[f"{database}_url"])) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def kept_in_redis(self, pattern: str) -> dict[str, str]:
        """Keys that match, with their values. Of strings only."""
        url = self.connections["redis_url"]
        with redis.Redis.from_url(url, decode_responses=True) as client:
            keys = sorted(client.scan_iter(pattern))
            values: Any = client.mget(keys) if keys else []
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def executed_by(self, host: Host) -> dict[str, int]:
        """Runs at work on this host now, with the process that executes each."""
        started = {run for (run,) in self.rows("dagster_database", "SELECT run_id FROM runs WHERE status = 'STARTED'")}
        held = self.kept_in_redis("run:*:lease").items()
        mine = [(key.split(":")[1], value.split(":")) for key, value in held if value.startswith(f"{host.name}:")]
        return {run: int(holder[-2]) for run, holder in mine if run in started}

    def _log(self, host: Host) -> Path:
        return self._directory / f"{host.name}.log"

    def _command(self, host: Host, environment: Mapping[str, str], *arguments: str) -> Any:
        argv = [sys.executable, "-m", "videomoments_dagster.cli.main", *arguments]
        own = {"VIDEOMOMENTS_HOME": str(self.home(host)), **environment}
        return host.start(argv, {**self._shared, **own}, self._log(host))


@contextmanager
def started(network: Network, directory: Path) -> Iterator[Cluster]:
    """All hosts at work; the thread is on the hub inside the block. Everything is killed at the end."""
    hub, *workers = network.hosts
    with hub.entered(), serving(hub.address) as web, running(hub.address) as bucket:
        cluster = Cluster(network, directory, web, bucket)
        try:
            cluster.start_hub()
            with relaying(hub.address, *cluster.ports()):
                for host in workers:
                    cluster.start_worker(host)
                yield cluster
        finally:
            for host in network.hosts:
                host.kill()


def until(condition: Callable[[], Any], what: str, *, seconds: float = 120, beat_seconds: float = 0.1) -> None:
    """Wait for what happens in other processes and sends no event."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"It did not happen within {seconds:.0f} s that {what}."
        time.sleep(beat_seconds)
