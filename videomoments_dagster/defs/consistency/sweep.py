"""The consistency sweep: do rows, objects, partitions, Redis and Dagster say the same? What they disagree about is
reported, and mended on demand. What belongs to a video that somebody works on is left alone.
"""

import dagster as dg

from db.queries import consistency as queries
from db.session import named_errors
from videomoments_dagster.defs.consistency.history import sweep_history
from videomoments_dagster.defs.consistency.leaks import sweep_locks, sweep_slots
from videomoments_dagster.defs.consistency.library import holdings
from videomoments_dagster.defs.consistency.objects import doomed_videos, sweep_library
from videomoments_dagster.defs.consistency.partitions import doomed_partitions, sweep_partitions
from videomoments_dagster.defs.consistency.report import Findings, Report
from videomoments_dagster.defs.consistency.requests import sweep_requests
from videomoments_dagster.defs.consistency.statuses import sweep_statuses
from videomoments_dagster.defs.consistency.transcripts import sweep_transcripts
from videomoments_dagster.defs.consistency.work import Work
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import Conflict

_STEPS = (
    # what waits for nothing comes first: a video is free for the rest when nothing seems to work on it any more
    sweep_requests,
    sweep_history,
    sweep_statuses,
    sweep_locks,
    sweep_slots,
    sweep_partitions,
    sweep_library,
    sweep_transcripts,
)
_MOST_DOOMED, _MOST_DOOMED_SHARE = 10, 0.1
"""Videos that a sweep deletes whole, at most, if they are more than a share of all: leftovers are few."""
_OTHER_DATABASE = "Check that DATABASE_URL, GCS_BUCKET_NAME and VIDEOMOMENTS_HOME belong together."


def sweep(instance: dg.DagsterInstance, platform: PlatformResource, *, fix: bool, delete: bool = False) -> Report:
    """A whole sweep; it changes nothing unless `fix`. Objects and partitions that no row names stay even then, unless
    `delete`. Safe to repeat, and while the platform works.

    Raises ServiceUnavailable or StorageError when a service is away, and Conflict when the database seems not to be
    the store's: half a report is none.
    """
    work = Work(instance, platform, Findings(fix or delete, delete))
    with named_errors("Dagster's database"):
        if fix or delete:
            _refuse_new_database(work)
        if delete:
            _refuse_old_database(work)
        for step in _STEPS:
            step(work)
    return work.findings.report()


def _refuse_new_database(work: Work) -> None:
    """A library whose database knows nothing of it is one whose database is another one: it would be deleted whole."""
    with work.platform.database.read() as session:
        if not queries.is_empty(session):
            return
    partitions = work.instance.get_paginated_dynamic_partitions(VIDEOS, limit=1, ascending=True).results
    if partitions or next(holdings(work.platform), None):
        raise Conflict(
            "There are partitions or objects, and the database knows no video at all: nothing was changed.",
            hint=_OTHER_DATABASE,
        )


def _refuse_old_database(work: Work) -> None:
    """One that was restored from an old copy, or is another platform's, knows some videos and would cost the rest."""
    for what, (doomed, total) in (("videos", doomed_videos(work)), ("partitions", doomed_partitions(work))):
        if doomed > max(_MOST_DOOMED, _MOST_DOOMED_SHARE * total):
            raise Conflict(
                f"The database knows nothing of {doomed} of {total} {what}, and all of them would be deleted."
                " Nothing was changed.",
                hint=f"{_OTHER_DATABASE} Was the database restored from an old copy? `--fix` alone deletes nothing.",
            )


def sweep_here(*, fix: bool, delete: bool) -> Report:
    """The sweep of the platform that the environment names."""
    with dg.DagsterInstance.get() as instance:
        return sweep(instance, PlatformResource(), fix=fix, delete=delete)
