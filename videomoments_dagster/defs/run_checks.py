"""Executes the asset checks of videos outside the daemon, for `videomoments check`. Results land in the Dagster UI."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from videomoments_dagster.defs.jobs import checks
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.errors import NotFound


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
        return list(instance.get_dynamic_partitions(videos.name))


def run_checks(definitions: dg.Definitions, video: str) -> Iterator[CheckOutcome]:
    """Run every check of `video` in this process and yield the outcomes. Raises NotFound for an unknown partition."""
    job = definitions.resolve_job_def(checks.name)
    with dg.DagsterInstance.get() as instance:
        if not instance.has_dynamic_partition(videos.name, video):
            raise NotFound(f"There is no video {video!r}.", hint="`videomoments list` shows the videos.")
        result = job.execute_in_process(instance=instance, partition_key=video, raise_on_error=False)
        seen = set()
        for evaluation in result.get_asset_check_evaluations():
            seen.add(evaluation.asset_check_key)
            yield CheckOutcome(
                video,
                evaluation.asset_key.to_user_string(),
                evaluation.check_name,
                evaluation.passed,
                evaluation.description or "",
            )
        for event in result.get_step_failure_events() if not result.success else ():
            data = event.step_failure_data
            failure = data.user_failure_data
            text = (failure and failure.description) or (
                data.error.message.strip().splitlines()[0] if data.error else "failed"
            )
            yield CheckOutcome(video, "", event.step_key or "", False, text)
