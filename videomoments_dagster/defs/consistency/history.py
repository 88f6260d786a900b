"""Rows of the history that say `running` while no such run lives."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from db.queries import consistency as queries
from db.queries import runs as run_queries
from db.queries.consistency import Running
from videomoments_dagster.defs.consistency.report import Findings, Kind
from videomoments_dagster.defs.consistency.work import ACTIVE, BATCH, GONE, Work, long_ago
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG, WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.run_end import error_of, finish_as_it_ended, finish_attempt
from videomoments_dagster.defs.tracking import run_times

_RUNS_OF_A_VIDEO = 100  # the newest before a row's start; its run is among the first of them


def sweep_history(work: Work) -> None:
    """Rows of the history that say `running` while no such run lives."""
    for page in _running_rows(work):
        living = _living_rows(work, page)
        for row in page:
            if row.identifier in living:
                continue
            work.findings.add(
                Kind.STUCK_HISTORY,
                row.video,
                row.identifier,
                "It says running, and no such run lives.",
                fix="Records its end.",
                fixed="Its end is recorded.",
                mend=lambda row=row: _mend_history(work, row),
            )


def end_unheard(instance: dg.DagsterInstance, platform: PlatformResource, limit: int) -> int:
    """Record the ends of up to `limit` runs that nobody heard of. Returns how many."""
    work = Work(instance, platform, Findings(fix=True))
    with platform.database.read() as session:
        rows = queries.running_after(session, None, before=long_ago(), limit=BATCH)
    living = _living_rows(work, rows) if rows else set()
    ended = [row for row in rows if row.identifier not in living][:limit]
    return sum(_mend_history(work, row) for row in ended)


def _running_rows(work: Work) -> Iterator[list[Running]]:
    last = None
    while True:
        with work.platform.database.read() as session:
            page = queries.running_after(session, last, before=long_ago(), limit=BATCH)
        if page:
            yield page
        if len(page) < BATCH:
            return
        last = page[-1].identifier


def _living_rows(work: Work, rows: list[Running]) -> set[str]:
    """Identifiers of the history rows of runs that have not ended, or ended just now."""
    videos = {row.video for row in rows}
    lately = dg.RunsFilter(tags={PARTITION_TAG: list(videos)}, updated_after=long_ago())
    living = work.active_runs(videos) + [each.dagster_run for each in work.instance.get_run_records(lately)]
    if any(len(video) >= run_queries.VIDEO_CHARACTERS for video in videos):
        living += _living_with_long_names(work)
    return {_row_of(work, run) for run in living}


def _living_with_long_names(work: Work) -> list[dg.DagsterRun]:
    """The runs whose names a row without a video has only in part, so that their tags do not tell whose they are."""
    active, lately = dg.RunsFilter(statuses=ACTIVE), dg.RunsFilter(updated_after=long_ago())
    runs = [each.dagster_run for wanted in (active, lately) for each in work.instance.get_run_records(wanted)]
    return [run for run in runs if len(run.tags.get(PARTITION_TAG, "")) > run_queries.VIDEO_CHARACTERS]


def _finish(work: Work, run: dg.DagsterRun) -> None:
    """Where another run has taken over or will, only the attempt is over: its request and lock are the other's."""
    request_id, root = run.tags.get(REQUEST_TAG), run.root_run_id or run.run_id
    chain = dg.RunsFilter(tags={REQUEST_TAG: request_id} if request_id else {ROOT_RUN_ID_TAG: root})
    newest = next((each.dagster_run for each in work.instance.get_run_records(chain, limit=1)), run)
    goes_on = newest.run_id != run.run_id or run.tags.get(WILL_RETRY_TAG) == "true"
    if goes_on and run.status is dg.DagsterRunStatus.FAILURE:
        finish_attempt(work.instance, work.platform, run, error_of(work.instance, work.platform, run))
    else:
        finish_as_it_ended(work.instance, work.platform, run)


def _row_of(work: Work, run: dg.DagsterRun) -> str:
    return run_queries.run_identifier(run.tags[PARTITION_TAG], run_times(work.instance, run.run_id)[0])


def _mend_history(work: Work, row: Running) -> bool:
    if row.identifier in _living_rows(work, [row]):
        return False
    before = row.started_at + timedelta(seconds=1)
    made_before = dg.RunsFilter(tags={PARTITION_TAG: row.video}, created_before=before)
    records = work.instance.get_run_records(made_before, limit=_RUNS_OF_A_VIDEO)
    ended = [record.dagster_run for record in records if _row_of(work, record.dagster_run) == row.identifier]
    if ended:
        _finish(work, ended[0])
        return True
    with work.platform.database.session() as session:
        run_queries.record(
            session,
            video_identifier=row.video,
            pipeline_type=row.pipeline_type,
            status="failed",
            started_at=row.started_at,
            completed_at=datetime.now(UTC),
            error_message=f"{GONE['message']} {GONE['hint']}",
        )
    return True
