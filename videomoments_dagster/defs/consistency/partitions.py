"""Partitions that nobody asked for, and stored videos that are no partition."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from db.queries import consistency as queries
from db.queries import requests as request_queries
from videomoments_dagster.defs.consistency.report import Kind
from videomoments_dagster.defs.consistency.work import BATCH, Work
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.errors import VideoBusy


def sweep_partitions(work: Work) -> None:
    """Partitions without a video and without a request. A run that was started for one in the Dagster UI keeps it."""
    for page in _pages(work):
        with work.platform.database.read() as session:
            unknown = set(page) - queries.known_videos(session, page)
            unknown -= work.in_work(session, unknown)
        for video in sorted(unknown):
            work.findings.add(
                Kind.PARTITION_WITHOUT_REQUEST,
                video,
                video,
                "Nobody asked for it, and there is no video.",
                fix="Removes it from the partitions, with --delete.",
                fixed="Removed from the partitions.",
                mend=lambda video=video: _remove(work, video),
                deletes=True,
            )


def doomed_partitions(work: Work) -> tuple[int, int]:
    """How many partitions have neither a video nor a request, and how many there are."""
    doomed, total = 0, 0
    for page in _pages(work):
        total += len(page)
        with work.platform.database.read() as session:
            doomed += len(set(page) - queries.known_videos(session, page))
    return doomed, total


def missing_partitions(work: Work, videos: Sequence[str]) -> None:
    """Those of the stored `videos` that are no partition."""
    for video in sorted(set(videos) - work.instance.get_existing_dynamic_partitions(VIDEOS, videos)):
        work.findings.add(
            Kind.VIDEO_WITHOUT_PARTITION,
            video,
            video,
            "It is stored, and no partition: the Dagster UI does not show it.",
            fix="Adds it to the partitions.",
            fixed="Added to the partitions.",
            mend=lambda video=video: _add(work, video),
        )


def _pages(work: Work) -> Iterator[Sequence[str]]:
    cursor = None
    while True:
        page = work.instance.get_paginated_dynamic_partitions(VIDEOS, limit=BATCH, ascending=True, cursor=cursor)
        if page.results:
            yield page.results
        if not page.has_more:
            return
        cursor = page.cursor


def _remove(work: Work, video: str) -> bool:
    with suppress(VideoBusy), work.platform.database.session() as session:
        request_queries.lock_video(session, video)
        if not queries.known_videos(session, [video]) and not work.in_work(session, [video]):
            work.instance.delete_dynamic_partition(VIDEOS, video)
            return True
    return False


def _add(work: Work, video: str) -> bool:
    with suppress(VideoBusy), work.platform.database.session() as session:
        request_queries.lock_video(session, video)
        if queries.promises_of(session, [video]):
            work.instance.add_dynamic_partitions(VIDEOS, [video])
            return True
    return False
