"""The limit: processes that take a run from a Redis list and call its job. No run queue, launcher, lease or sensor.

`python -m benchmarks.bare_worker PROCESSES` imports the definitions, forks, and serves until it is stopped.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from typing import Any, Self
from uuid import uuid4

import dagster as dg

from benchmarks.noop_graph import JOB, defs
from benchmarks.services import ROOT, Services, start
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.child import Child, Program

_REQUESTS, _READY = "benchmark:requests", "benchmark:ready"
_BLOCK_SECONDS = 10


class BareWorker:
    """Starts and stops one, as a context manager, and gives it runs."""

    def __init__(self, services: Services, instance: dg.DagsterInstance, *, processes: int) -> None:
        self._instance, self._redis = instance, connect(get_settings().redis_url)
        self._redis.delete(_READY)
        self.child: Child = Program(
            "Bare worker",
            [sys.executable, "-m", "benchmarks.bare_worker", str(processes)],
            log=services.home.logs / "bare-worker.log",
            environment=lambda: {**os.environ, "PYTHONPATH": str(ROOT)},
            probe=lambda: self._redis.llen(_READY) == processes,
        )

    def __enter__(self) -> Self:
        start(self.child)
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def submit(self) -> float:
        """A run of a new video; returns when its message was sent."""
        video = f"video-{uuid4().hex[:12]}"
        self._instance.add_dynamic_partitions(VIDEOS, [video])
        sent = time.time()
        self._redis.lpush(_REQUESTS, json.dumps({"partition": video, "run_id": str(uuid4())}))
        return sent


def main(processes: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # the children too
    job = defs.resolve_job_def(JOB)
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_serve, args=(job,)) for _ in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join()


def _serve(job: dg.JobDefinition) -> None:
    client = connect(get_settings().redis_url)
    with dg.DagsterInstance.get() as instance:
        client.lpush(_READY, "")
        while True:
            popped: Any = client.brpop([_REQUESTS], timeout=_BLOCK_SECONDS)
            if popped:
                request = json.loads(popped[1])
                job.execute_in_process(instance=instance, partition_key=request["partition"], run_id=request["run_id"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
