"""What a platform finds in Dagster's storage after the one before it was killed."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from videomoments_dagster.defs.abandoned import end_abandoned_runs

LATER = timedelta(minutes=1)


@dg.op
def nothing() -> None: ...


@dg.job(executor_def=dg.in_process_executor)
def job() -> None:
    nothing()


@pytest.mark.parametrize(
    ("left", "becomes"),
    [
        (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED),
        (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.NOT_STARTED),
        (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.SUCCESS),
    ],
)
def test_runs_at_work_are_ended_and_no_others(left: dg.DagsterRunStatus, becomes: dg.DagsterRunStatus) -> None:
    """Found by kill -9 of a platform in the middle of a transcription: the run stayed "started" for ever."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=left)
        ended = end_abandoned_runs(instance, before=datetime.now(UTC) + LATER)
        assert ended == (left is not becomes)
        found = instance.get_run_by_id(run.run_id)
        assert found
        assert found.status is becomes


def test_a_run_of_the_platform_that_is_starting_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert end_abandoned_runs(instance, before=datetime.now(UTC) - LATER) == 0
