"""The run launcher: Dagster's Celery launcher, with leases in place of Celery's own idea of what lives.

Celery can't tell whether the worker of a task is alive, a cancelled task takes its process with it, and a message can
be lost. So a run's lease in Redis (requests/lease.py) says who executes it: the run monitor asks for it, cancelling is
an order that its holder reads, and a launch that nobody took is published again (relaunch.py).
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from celery import Task
from celery.canvas import Signature
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import MAX_RETRIES_TAG, PRIORITY_TAG
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from kombu.exceptions import OperationalError

from videomoments_dagster.defs.workers.configuration import DEFAULT_QUEUE, QUEUE_TAG, celery_arguments
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import connect, reaching
from videomoments_dagster.requests.lease import CONFIRM_SECONDS, TTL_SECONDS, RunLease

if TYPE_CHECKING:
    import redis

HANDED_BACK = "its worker was stopped and handed it back"
PROCESS_DIED = "its worker process died"
_GONE = "its worker is gone, or can't be reached"


class LeasedRunLauncher(CeleryRunLauncher):
    """CeleryRunLauncher on Redis. A run's tag `dagster-celery/queue` names the queue it goes to."""

    def __init__(self, redis_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(default_queue=DEFAULT_QUEUE, inst_data=inst_data, **celery_arguments(redis_url))
        self.redis: redis.Redis = connect(redis_url)
        self._missing_since: dict[str, float] = {}

    def terminate(self, run_id: str) -> bool:
        """Cancel a run wherever it is: in a worker it is interrupted within RENEW_SECONDS, in the broker it is over
        at once (its message is dropped by who takes it). Raises ServiceUnavailable, and changes nothing, while Redis
        is away."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        lease = RunLease(self.redis, run_id)
        lease.holder()  # Redis is there: an order that is not heard would leave the run at work after its end
        if run.status is not dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        lease.order_cancel()
        if lease.holder() is None:  # who claims it from now on sees that it is being cancelled
            self._instance.report_run_canceled(run, "Cancelled before a worker had taken it.")
        return True

    @property
    def supports_resume_run(self) -> bool:
        return False  # a lost run fails and is retried from its failed step as a run of its own

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING while the lease is held, or can't be asked for. FAILED once the run is declared lost: its lease was
        away for CONFIRM_SECONDS, or its worker handed it back."""
        lease = RunLease(self.redis, run.run_id)
        try:
            if lease.holder() is not None:
                self._missing_since.pop(run.run_id, None)
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            verdict = lease.verdict()
            if verdict is None:
                missing = time.monotonic() - self._missing_since.setdefault(run.run_id, time.monotonic())
                if missing < CONFIRM_SECONDS or not self._redis_is_steady() or not lease.declare_lost(_GONE):
                    return CheckRunHealthResult(WorkerStatus.RUNNING)
                verdict = _GONE
        except ServiceUnavailable:
            self._missing_since.clear()  # after an outage workers have the time again to come back
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._missing_since.pop(run.run_id, None)
        self._prepare_retry(run, verdict)
        self._instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"The run was lost: {verdict}.")

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        lease = RunLease(self.redis, run.run_id)
        return f"Queue {self.queue_of(run)}, worker {lease.holder() or 'none'}."

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Task, routing_key: str) -> None:
        """The message carries the run's id as its own: workers and operators see which run a task is. While the broker
        is away the run stays launched, and is published when it is back (relaunch.py)."""
        assert isinstance(task_signature, Signature)  # noqa: S101  # Dagster's annotation says Task
        named: Any = task_signature.set(task_id=run.run_id)
        try:
            super()._launch_celery_task_run(run, named, routing_key)
        except OperationalError:
            self._instance.report_engine_event("The broker does not answer: launched again once it does.", run)

    def queue_of(self, run: dg.DagsterRun) -> str:
        """The queue whose workers may take the run."""
        return run.tags.get(QUEUE_TAG, self.default_queue)

    def _redis_is_steady(self) -> bool:
        """False while workers may not yet have come back to a Redis that was started anew."""
        with reaching(self.redis):
            server: Any = self.redis.info("server")
        return server["uptime_in_seconds"] > TTL_SECONDS + CONFIRM_SECONDS

    def _prepare_retry(self, run: dg.DagsterRun, verdict: str) -> None:
        """A retry has the tags of the run that was lost. It had its turn, so it goes before those that wait for theirs;
        and stopping a worker is no failure of the run: it does not use up one of its retries."""
        tags = {PRIORITY_TAG: str(number_in(run, PRIORITY_TAG, 0) + 1)}
        if verdict == HANDED_BACK:
            tags[MAX_RETRIES_TAG] = str(number_in(run, MAX_RETRIES_TAG, self._instance.run_retries_max_retries) + 1)
        self._instance.add_run_tags(run.run_id, tags)

    @classmethod
    def config_type(cls) -> dict[str, dg.Field]:
        return {"redis_url": dg.Field(dg.StringSource, description="The broker, and where leases are kept")}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> "LeasedRunLauncher":
        return cls(inst_data=inst_data, **config_value)


def number_in(run: dg.DagsterRun, tag: str, default: int) -> int:
    """What a run's tag says; people may have written anything there."""
    try:
        return int(run.tags.get(tag, default))
    except ValueError:
        return default
