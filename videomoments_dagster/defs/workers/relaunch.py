"""Launched runs that got lost on their way to a worker: the daemon died between launching and publishing, the broker
was away or lost its data, or a process died with the run before it had begun.
"""

from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.launcher import LaunchRunContext
from kombu.exceptions import ChannelError, OperationalError

from videomoments_dagster.defs.workers.launcher import PROCESS_DIED, LeasedRunLauncher, number_in
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import reaching
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.workers import WorkerRegistry

RELAUNCH_SECONDS = 20
"""How long a launched run may stay without a worker before its message can count as lost."""
BATCH = 50  # runs a call: far below the 60 s a sensor's tick may take
MOST_DEATHS = 3
"""After so many processes died with a run before it had begun, it fails."""
_DEATHS_TAG = "videomoments/deaths"


@dataclass(slots=True)
class Relaunched:
    """Counts of runs; `unserved` names queues whose runs wait while no worker takes from them."""

    published: int = 0
    failed: int = 0
    unserved: list[str] = field(default_factory=list)


def relaunch_lost(instance: dg.DagsterInstance, launcher: LeasedRunLauncher) -> Relaunched:
    """Publish again the runs that were launched and have neither a worker nor a message, the oldest first. Safe to
    repeat: a run with two messages is executed once. Raises ServiceUnavailable.
    """
    outcome = Relaunched()
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]), ascending=True)
    waiting: dict[str, list[dg.RunRecord]] = defaultdict(list)
    for record in records:
        if RunLease(launcher.redis, record.dagster_run.run_id).holder() is None:
            waiting[launcher.queue_of(record.dagster_run)].append(record)
    served = {queue for worker in WorkerRegistry(launcher.redis).living() for queue in worker.queues}
    outcome.unserved = sorted(set(waiting) - served)
    before = datetime.now(UTC) - timedelta(seconds=RELAUNCH_SECONDS)
    for queue, unclaimed in waiting.items():
        if len(unclaimed) <= _messages_in(launcher, queue):
            continue
        late = [record for record in unclaimed if record.update_timestamp.replace(tzinfo=UTC) < before]
        for record in sorted(late, key=lambda record: record.update_timestamp)[: BATCH - outcome.published]:
            _relaunch(instance, launcher, record.dagster_run, outcome)
    return outcome


def _relaunch(
    instance: dg.DagsterInstance, launcher: LeasedRunLauncher, run: dg.DagsterRun, outcome: Relaunched
) -> None:
    lease = RunLease(launcher.redis, run.run_id)
    if lease.verdict() == PROCESS_DIED:
        deaths = number_in(run, _DEATHS_TAG, 0) + 1
        instance.add_run_tags(run.run_id, {_DEATHS_TAG: str(deaths)})
        if deaths >= MOST_DEATHS:
            instance.report_run_failed(run, f"{deaths} worker processes died with this run before it had begun.")
            outcome.failed += 1
            return
    lease.forget_verdict()
    launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    outcome.published += 1


def _messages_in(launcher: LeasedRunLauncher, queue: str) -> int:
    """Messages that wait in the queue, or were fetched and not yet given to a process."""
    try:
        with (
            launcher.celery.connection_for_read() as connection,
            closing(connection.channel()) as channel,
            reaching(launcher.redis),
        ):
            fetched = channel.client.hlen(channel.unacked_key)
            try:
                return channel.queue_declare(queue, passive=True).message_count + fetched
            except ChannelError:  # nobody has published to it yet
                return fetched
    except OperationalError as error:
        raise ServiceUnavailable(f"The broker does not answer: {error}.") from error
