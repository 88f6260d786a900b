"""Runs whose processes ended with an earlier platform. Nothing in Dagster notices: its default launcher can't ask after
a worker, so such a run would count as started for ever and hold its video, its place in the queue and its pool slots.
"""

from datetime import datetime

import dagster as dg

_AT_WORK = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def end_abandoned_runs(instance: dg.DagsterInstance, *, before: datetime) -> int:
    """End every run that is marked as at work and was last heard of `before` the platform started. Returns how many.

    The queue resumes a failed one at the step it was at (run_retries in dagster.yaml); one that was being cancelled
    stays cancelled.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=_AT_WORK, updated_before=before))
    for record in records:
        run = record.dagster_run
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The platform ended while this run was being cancelled.")
        else:
            instance.report_run_failed(run, "The platform ended while this run was at work.")
    return len(records)
