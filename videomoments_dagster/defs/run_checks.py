"""Executes the asset checks of videos outside the daemon, for `videomoments check`. Results land in the Dagster UI."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from videomoments_dagster.defs.jobs import checks
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import BLOCKED_ERROR, PARTITION_TAG
from videomoments_dagster.errors import NotFound

_NO_LOG = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # Dagster's own log is in the UI


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check of one video. `description` says what is wrong, or nothing."""

    video: str
    asset: str
    check: str
    passed: bool
    description: str


def known_videos() -> list[str]:
    """Every partition of the running instance, oldest first."""
    with dg.DagsterInstance.get() as instance:
        return list(instance.get_dynamic_partitions(VIDEOS))


def run_checks(definitions: dg.Definitions, video: str) -> Iterator[CheckOutcome]:
    """Run every check of `video` in this process and yield the outcomes. Raises NotFound for an unknown partition."""
    job = definitions.resolve_job_def(checks.name)
    with dg.DagsterInstance.get() as instance:
        if not instance.has_dynamic_partition(VIDEOS, video):
            raise NotFound(f"There is no video {video!r}.", hint="`videomoments list` shows the videos.")
        # execute_in_process(partition_key=) asks the assets for their partitions, and this job has checks only
        result = job.execute_in_process(_NO_LOG, instance=instance, tags={PARTITION_TAG: video}, raise_on_error=False)
        for found in result.get_asset_check_evaluations():
            asset = found.asset_key.to_user_string()
            yield CheckOutcome(video, asset, found.check_name, found.passed, found.description or "")
        for event in result.get_step_failure_events():
            error = event.step_failure_data.error
            if error and error.cls_name != BLOCKED_ERROR:  # its evaluation says it already
                message = error.message.strip().splitlines()[0]
                yield CheckOutcome(video, "", event.step_key or "", False, message)
