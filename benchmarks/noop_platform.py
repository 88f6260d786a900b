"""The platform as `videomoments up` plans it, but for one thing: its code server serves the no-op definitions."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self
from uuid import uuid4

from benchmarks.services import ROOT, Services, start
from tests.defs.pipeline import submit
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.requests.stream import RequestStream, StartMessage
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack import probes
from videomoments_dagster.stack.child import Child, Program
from videomoments_dagster.stack.plan import CODE, make_plan

_DAEMON = "Dagster daemon"
_DEFINITIONS, _NOOP_DEFINITIONS = "videomoments_dagster.definitions", "benchmarks.noop_graph"


class NoopPlatform:
    """Code server and daemon, as a context manager; `worker` adds workers."""

    def __init__(self, services: Services, *, max_concurrent_runs: int = 2) -> None:
        os.environ["VIDEOMOMENTS_MAX_CONCURRENT_RUNS"] = str(max_concurrent_runs)
        get_settings.cache_clear()
        self._services, self._platform = services, PlatformResource()
        plan = make_plan(get_settings(), services.home, with_dagster=True)
        self._environment = {**plan.environment(), "PYTHONPATH": str(ROOT)}
        programs = [part.child for part in plan.parts if isinstance(part.child, Program)]
        for program in programs:
            program.environment = lambda: self._environment
        self._programs = {program.name: program for program in programs}
        code = self._programs[CODE]
        code.argv[code.argv.index(_DEFINITIONS)] = _NOOP_DEFINITIONS
        at = code.argv.index("--empty-working-directory")  # Dagster takes the present one off the path
        code.argv[at : at + 1] = ["--working-directory", str(ROOT)]
        self.dagster: list[Child] = [code, self._programs[_DAEMON]]

    def __enter__(self) -> Self:
        for program in self._programs[CODE], self._programs[_DAEMON]:
            start(program)
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self.dagster):
            child.stop()

    @contextmanager
    def worker(self, processes: int) -> Iterator[Child]:
        """`videomoments worker --concurrency PROCESSES`, ready to take runs."""
        worker = Program(
            "Worker",
            [sys.executable, "-m", "videomoments_dagster.cli.main", "worker", f"--concurrency={processes}"],
            log=self._services.home.logs / f"worker-{uuid4().hex[:8]}.log",
            environment=lambda: self._environment,
            probe=lambda: probes.worker_announced(
                get_settings().redis_url, worker.process.pid if worker.process else 0
            ),
            grace_seconds=20.0,
        )
        try:
            start(worker)
            yield worker
        finally:
            worker.stop()

    def submit(self) -> float:
        """What the API does for a new video: the row, then the message. Returns when the message was sent."""
        video, url = f"video-{uuid4().hex[:12]}", f"https://example.com/{uuid4().hex}.mp4"
        request_id = submit(self._platform, video, url)
        sent = time.time()
        RequestStream(self._platform.redis).publish(StartMessage(request_id, video, PipelineType.FULL, url, {}))
        return sent
