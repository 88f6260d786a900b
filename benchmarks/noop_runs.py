"""Runs that do nothing: pools that do not hold them up, waiting for them, and what Dagster recorded about them."""

import time

import dagster as dg

from videomoments_dagster.defs.policies import pool_limits
from videomoments_dagster.settings import get_settings

_POOL_SLOTS = 16
_DEADLINE_SECONDS, _LOOK_SECONDS = 180.0, 0.1


def widen_pools(instance: dg.DagsterInstance) -> None:
    """Pools are claimed as always, but never full: a run that meets a full one waits for a second, and what is
    measured would be how often two runs meet."""
    for pool in pool_limits(get_settings()):
        instance.event_log_storage.set_concurrency_slots(pool, _POOL_SLOTS)


def finished_runs(instance: dg.DagsterInstance, count: int, *, after: int) -> list[dg.RunRecord]:
    """Wait until `count` runs made after the one with the storage id `after` have succeeded; newest first."""
    return _wait(instance, count, after, {dg.DagsterRunStatus.SUCCESS})


def queued_runs(instance: dg.DagsterInstance, count: int, *, after: int) -> list[dg.RunRecord]:
    """Wait until there are so many new runs, in whatever state."""
    return _wait(instance, count, after, set(dg.DagsterRunStatus))


def last_run(instance: dg.DagsterInstance) -> int:
    """The storage id of the newest run; 0 when there is none."""
    return max((record.storage_id for record in instance.get_run_records(limit=1)), default=0)


def event_time(instance: dg.DagsterInstance, record: dg.RunRecord, kind: dg.DagsterEventType) -> float:
    """When the run's first event of this kind happened: seconds since the epoch."""
    run_id = record.dagster_run.run_id
    return instance.get_records_for_run(run_id, of_type=kind, limit=1, ascending=True).records[0].timestamp


def _wait(
    instance: dg.DagsterInstance, count: int, after: int, statuses: set[dg.DagsterRunStatus]
) -> list[dg.RunRecord]:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while True:
        newest = instance.get_run_records(limit=count)  # by storage id: costs the same in an instance of any size
        new = [record for record in newest if record.storage_id > after]
        if len(new) == count and all(record.dagster_run.status in statuses for record in new):
            return new
        assert time.monotonic() < deadline, [record.dagster_run.status.value for record in new]
        time.sleep(_LOOK_SECONDS * (1 + count // 10))  # a look at many costs more
