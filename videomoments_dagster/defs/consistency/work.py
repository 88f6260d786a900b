"""What a sweep works with, and what must be left alone: videos that somebody works on, and what just happened."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

import dagster as dg
from sqlalchemy.orm import Session

from db.queries import consistency as queries
from videomoments_dagster.defs.consistency.report import Findings
from videomoments_dagster.defs.policies import PARTITION_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.lock import PipelineLock

BATCH = 500
PATIENCE_SECONDS = 300
"""The sensors record what ends within seconds, and mend what was lost within 90 s: what is older, nobody mends."""

GONE = {
    "stage": None,
    "code": "run_crashed",
    "message": "The run is gone: Dagster knows nothing of it.",
    "hint": "Start the video again; finished stages keep their results.",
    "retryable": True,
}
"""The error of what a run left that nobody can be asked about."""
ACTIVE = [
    status
    for status in dg.DagsterRunStatus
    if status not in {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Work:
    instance: dg.DagsterInstance
    platform: PlatformResource
    findings: Findings

    def active_runs(self, videos: Collection[str]) -> list[dg.DagsterRun]:
        """Runs for any of `videos` that have not ended, those in the queue too."""
        if not videos:
            return []
        wanted = dg.RunsFilter(tags={PARTITION_TAG: list(videos)}, statuses=ACTIVE)
        return [record.dagster_run for record in self.instance.get_run_records(wanted)]

    def asked_for(self, session: Session, videos: Collection[str]) -> set[str]:
        """Those of `videos` that have an active request or run."""
        return queries.active_videos(session, videos) | {run.tags[PARTITION_TAG] for run in self.active_runs(videos)}

    def in_work(self, session: Session, videos: Collection[str]) -> set[str]:
        """Those of `videos` that have an active request or run, or whose lock is held."""
        lock = PipelineLock(self.platform.redis)
        return self.asked_for(session, videos) | {video for video in videos if lock.owner(video)}

    def runs(self, run_ids: Collection[str]) -> dict[str, dg.RunRecord]:
        """By id, of those that Dagster knows."""
        records = self.instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids))) if run_ids else []
        return {record.dagster_run.run_id: record for record in records}


def long_ago() -> datetime:
    """What happened before is nobody's to mend but the sweep's."""
    return datetime.now(UTC) - timedelta(seconds=PATIENCE_SECONDS)


def ended_long_ago(record: dg.RunRecord) -> bool:
    return record.dagster_run.is_finished and record.update_timestamp.replace(tzinfo=UTC) < long_ago()


def batches(items: Iterable[_Item], size: int = BATCH) -> Iterator[list[_Item]]:
    """Lists of at most `size`, each made when it is asked for."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
