"""A small site: Dagster's database, a Redis of its own, and workers started as their users start them.

Runs are launched through the instance, so that real messages are sent. What a test sees is what an operator sees: run
statuses, keys, processes.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import redis as redis_client
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import PARENT_RUN_ID_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget

from tests.workers.gate import Gate
from tests.workers.graph import DIRECTORY_TAG, defs
from videomoments_dagster.defs.workers.launcher import LeasedRunLauncher
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.workers import WorkerRegistry
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.postgres import connect
from videomoments_dagster.stack.process_table import kill_all
from videomoments_dagster.stack.redis import EmbeddedRedis

GRAPH = "tests.workers.graph"
_ROOT = Path(__file__).resolve().parents[2]
_SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}


def until(condition: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """What `condition` says once it is true."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        threading.Event().wait(0.05)
    return answer


class Site:
    """`instance` is Dagster's, as the daemon and the webserver have it."""

    def __init__(self, directory: Path, database_url: str, **configured: str) -> None:
        self.directory = directory
        self.redis_server = EmbeddedRedis(directory / "redis")
        self.environment = {name: value for name, value in os.environ.items() if name not in _SETTINGS} | {
            "DATABASE_URL": database_url,
            "DAGSTER_DATABASE_URL": database_url,
            "REDIS_URL": self.redis_server.start(),
            "VIDEOMOMENTS_MAX_CONCURRENT_RUNS": "10",
            "DAGSTER_HOME": str(directory / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONSAFEPATH": "1",
            # Dagster leaves the first of these out when it loads code
            "PYTHONPATH": f"{directory / 'modules'}{os.pathsep}{_ROOT}",
            **configured,
        }
        for name in ("dagster", "modules"):
            (directory / name).mkdir()
        (directory / "dagster" / "dagster.yaml").write_bytes((_ROOT / "dagster.yaml").read_bytes())
        self.redis = redis_client.Redis.from_url(self.environment["REDIS_URL"], decode_responses=True)
        with _variables(self.environment):
            self.instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(self.environment["DAGSTER_HOME"]))
            launcher, _ = self.instance.run_launcher, self.instance.run_coordinator  # they read it at their first use
        assert isinstance(launcher, LeasedRunLauncher)
        self.launcher = launcher
        self.registry = WorkerRegistry(self.redis)
        self._gates: list[Gate] = []
        self._processes: list[subprocess.Popen[str]] = []

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                kill_all([parent, *parent.children(recursive=True)])
            process.wait()
        for gate in self._gates:
            gate.close()
        self.instance.dispose()
        self.redis.close()
        self.redis_server.stop()

    def gate(self) -> Gate:
        self._gates.append(Gate(self.directory / f"gate{len(self._gates)}"))
        return self._gates[-1]

    def create(self, job: str, gate: Gate, **tags: str) -> str:
        """A run that nothing has launched yet; its id."""
        return self._create(job, gate, tags)

    def create_retry(self, run_id: str, gate: Gate) -> str:
        """A run that goes on where another ended, and that nothing has launched yet; its id."""
        return self._create(self.run(run_id).job_name, gate, {}, parent_run_id=run_id)

    def _create(self, job: str, gate: Gate, tags: Mapping[str, str], parent_run_id: str | None = None) -> str:
        definition = defs.resolve_job_def(job)
        code = ReconstructableRepository.for_module(GRAPH, "defs").get_reconstructable_job(job).get_python_origin()
        location = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=GRAPH), GRAPH)
        run = self.instance.create_run_for_job(
            definition,
            tags={DIRECTORY_TAG: str(gate.directory), **tags},
            parent_run_id=parent_run_id,
            root_run_id=parent_run_id,
            job_code_origin=code,
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job),
        )
        return run.run_id

    def launch(self, job: str, gate: Gate, **tags: str) -> str:
        """A run whose message has been sent; its id."""
        run_id = self.create(job, gate, **tags)
        self.instance.launch_run(run_id, workspace=None)  # pyright: ignore[reportArgumentType]  # Celery needs none
        return run_id

    def submit(self, job: str, gate: Gate, **tags: str) -> str:
        """A run that waits in Dagster's queue for the daemon; its id."""
        run_id = self.create(job, gate, **tags)
        with WorkspaceProcessContext(self.instance, EmptyWorkspaceTarget()) as context:
            self.instance.submit_run(run_id, context.create_request_context())
        return run_id

    def retry_of(self, run_id: str) -> str | None:
        """The run that Dagster has made of a lost one."""
        runs = self.instance.get_runs(dg.RunsFilter(tags={PARENT_RUN_ID_TAG: run_id}))
        return runs[0].run_id if runs else None

    def send_again(self, run_id: str) -> None:
        """A copy of the run's message, as a broker delivers one that it thinks lost."""
        self.launcher.launch_run(LaunchRunContext(dagster_run=self.run(run_id), workspace=None))

    def let_pass(self, seconds: float) -> None:
        """As if nothing had happened to any run for so long."""
        with closing(connect(self.environment["DAGSTER_DATABASE_URL"])) as connection, connection.cursor() as cursor:
            cursor.execute(
                "UPDATE runs SET update_timestamp = update_timestamp - make_interval(secs => %s)", (seconds,)
            )

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run

    def status(self, run_id: str) -> str:
        return self.run(run_id).status.value

    def ends(self, *run_ids: str, seconds: float = 20.0) -> list[str]:
        """Wait until the runs are over; their statuses."""

        def over() -> list[str] | None:
            runs = self.instance.get_runs(dg.RunsFilter(run_ids=list(run_ids)))
            statuses = {run.run_id: run.status.value for run in runs if run.is_finished}
            return [statuses[run_id] for run_id in run_ids] if len(statuses) == len(run_ids) else None

        return until(over, seconds=seconds)

    def story(self, run_id: str) -> str:
        """What Dagster tells about a run, for people who read a failed test."""
        return "\n".join(
            f"{entry.message} {(entry.dagster_event and entry.dagster_event.event_specific_data) or ''}"
            for entry in self.instance.all_logs(run_id)
        )

    def lease(self, run_id: str) -> RunLease:
        return RunLease(self.redis, run_id)

    def worker(self, *options: str, **configured: str) -> "RunningWorker":
        """Start a worker, as on a host of its own."""
        home = self.directory / f"host{len(self._processes)}"
        environment = self.environment | {"VIDEOMOMENTS_HOME": str(home)} | configured
        return RunningWorker(self, self._spawn(["videomoments_dagster.cli.main", "worker", *options], environment))

    def daemon(self) -> None:
        """Start Dagster's own: its run monitor, its retries, its queue."""
        self._spawn(["videomoments_dagster.defs.daemon", "run", "-m", GRAPH], self.environment)

    def command(self, *arguments: str) -> str:
        """What the command line says."""
        environment = self.environment | {"VIDEOMOMENTS_HOME": str(self.directory / "operator")}
        argv = [sys.executable, "-m", "videomoments_dagster.cli.main", *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    def _spawn(self, arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
        log = self.directory / f"process{len(self._processes)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        self._processes.append(process)
        return process


class RunningWorker:
    """A worker process, seen from outside."""

    def __init__(self, site: Site, process: "subprocess.Popen[str]") -> None:
        self._site, self.process = site, process

    @property
    def is_listed(self) -> bool:
        return any(worker.pid == self.process.pid for worker in self._site.registry.living())

    def ready(self) -> "RunningWorker":
        until(lambda: self.is_listed or self.process.poll() is not None, seconds=60)
        assert self.process.poll() is None
        return self

    def children(self) -> list[psutil.Process]:
        """The processes that execute runs."""
        return psutil.Process(self.process.pid).children()

    def ends(self, *, seconds: float = 20.0) -> int:
        return self.process.wait(seconds)


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Freeze a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _variables(environment: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
