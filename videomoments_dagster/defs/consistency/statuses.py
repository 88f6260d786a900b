"""Live statuses in Redis that say queued or running while neither a request nor a run does."""

from db.queries import consistency as queries
from videomoments_dagster.defs.consistency.report import Kind
from videomoments_dagster.defs.consistency.work import Work, batches, ended_long_ago, long_ago
from videomoments_dagster.defs.run_end import finish_as_it_ended
from videomoments_dagster.requests.status import LiveStatus, PipelineStatus


def sweep_statuses(work: Work) -> None:
    """Live statuses in Redis that say queued or running while neither request nor run does."""
    seen: set[str] = set()
    for batch in batches(LiveStatus(work.platform.redis).unfinished()):
        for status in _stuck_of(work, [each for each in batch if each.video_id not in seen]):
            seen.add(status.video_id)
            work.findings.add(
                Kind.STUCK_STATUS,
                status.video_id,
                f"pipeline:{status.video_id}:active",
                f"It says {status.status}, and nothing of the video waits or runs.",
                fix="Makes it say what the rows say.",
                fixed="It says what the rows say.",
                mend=lambda status=status: _mend_status(work, status),
            )


def _stuck_of(work: Work, statuses: list[PipelineStatus]) -> list[PipelineStatus]:
    """Those whose request, if they have one, ended long ago or is unknown, of videos that nothing is asked for. Their
    lock may be held: it is judged by itself."""
    runs = work.runs([status.run_id for status in statuses if status.run_id])
    with work.platform.database.read() as session:
        lively = work.asked_for(session, [status.video_id for status in statuses])
        requests = queries.requests_of(session, [status.request_id for status in statuses if status.request_id])
    lively |= {each.video_id for each in statuses if (run := runs.get(each.run_id or "")) and not ended_long_ago(run)}
    lively |= {request.video_identifier for request in requests.values() if request.updated_at > long_ago()}
    return [status for status in statuses if status.video_id not in lively]


def _mend_status(work: Work, status: PipelineStatus) -> bool:
    live = LiveStatus(work.platform.redis)
    now = live.read(status.video_id)
    if now is None or now.status not in {"queued", "running"} or not _stuck_of(work, [now]):
        return False
    run = work.runs([now.run_id]).get(now.run_id) if now.run_id else None
    if run:
        finish_as_it_ended(work.instance, work.platform, run.dagster_run)
    after = live.read(status.video_id)
    if after and after.status in {"queued", "running"}:
        live.forget(status.video_id)  # readers ask the rows then
        live.wake(status.video_id)
    return True
