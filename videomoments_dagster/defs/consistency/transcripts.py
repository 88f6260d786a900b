"""Transcripts that search does not find: a worker whose code is older than passages stored them after the migration."""

from collections.abc import Iterator

from db.queries import consistency as queries
from db.queries import transcripts as transcript_queries
from videomoments_dagster.defs.consistency.report import Kind
from videomoments_dagster.defs.consistency.work import BATCH, Work


def sweep_transcripts(work: Work) -> None:
    """Transcripts in which something is said and that have no passages."""
    for page in _suspects(work):
        with work.platform.database.read() as session:
            busy = work.in_work(session, [video for video, _ in page])
        for video, transcript_id in page:
            if video in busy or not _lacks_passages(work, transcript_id):
                continue
            work.findings.add(
                Kind.TRANSCRIPT_WITHOUT_PASSAGES,
                video,
                f"transcript {transcript_id}",
                "Search finds nothing of what is said: it has no passages.",
                fix="Makes them.",
                fixed="Its passages are made.",
                mend=lambda transcript_id=transcript_id: _mend(work, transcript_id),
            )


def _suspects(work: Work) -> Iterator[list[tuple[str, int]]]:
    last: int | None = 0
    while last is not None:
        with work.platform.database.read() as session:
            page, last = queries.without_passages_after(session, last, BATCH)
        if page:
            yield page


def _lacks_passages(work: Work, transcript_id: int) -> bool:
    """One at a time: a transcript may have megabytes."""
    with work.platform.database.read() as session:
        return bool(transcript_queries.missing_passages(session, transcript_id))


def _mend(work: Work, transcript_id: int) -> bool:
    with work.platform.database.session() as session:
        return transcript_queries.add_missing_passages(session, transcript_id)
