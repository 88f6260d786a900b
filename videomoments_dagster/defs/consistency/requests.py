"""Requests that wait or run, by their row, while nothing will ever end them. The sensors mend all that they hear of;
this is for what they could not, such as a run that is gone from Dagster.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from db.models import PipelineRequest
from db.queries import consistency as queries
from db.queries import requests as request_queries
from videomoments_dagster.defs.consistency.report import Kind
from videomoments_dagster.defs.consistency.work import BATCH, GONE, Work, ended_long_ago, long_ago
from videomoments_dagster.defs.policies import REQUEST_TAG, WILL_RETRY_TAG
from videomoments_dagster.defs.run_end import finish_as_it_ended
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.requests.stream import RequestStream, StartMessage

RETRY_SECONDS = 3600
"""A run that is to be retried has its next run within seconds of its end, when Dagster's daemon is there."""


def sweep_requests(work: Work) -> None:
    """Requests that wait or run, by their row, and have no run that will end them."""
    for page in _active_requests(work):
        newest = _newest_runs(work, [request.request_id for request in page])
        for request in page:
            if wrong := _what_is_stuck(request, newest.get(request.request_id)):
                waits = request.state == "queued" and request.request_id not in newest
                work.findings.add(
                    Kind.STUCK_REQUEST,
                    request.video_identifier,
                    request.request_id,
                    wrong,
                    fix="Publishes it again." if waits else "Ends it as its run ended.",
                    fixed="Published again." if waits else "Ended as its run ended.",
                    mend=lambda request=request: _mend_request(work, request.request_id),
                )


def _active_requests(work: Work) -> Iterator[list[PipelineRequest]]:
    after = None
    while True:
        with work.platform.database.read() as session:
            page = queries.active_after(session, after, before=long_ago(), limit=BATCH)
        if page:
            yield page
        if len(page) < BATCH:
            return
        after = page[-1].updated_at, page[-1].id


def _newest_runs(work: Work, request_ids: list[str]) -> dict[str, dg.RunRecord]:
    """The newest run of each request that has any."""
    records = work.instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: request_ids}), ascending=True)
    return {record.dagster_run.tags[REQUEST_TAG]: record for record in records}


def _what_is_stuck(request: PipelineRequest, newest: dg.RunRecord | None) -> str | None:
    if newest is None:
        if request.state == "queued":
            return f"It waits since {request.requested_at:%Y-%m-%d %H:%M} UTC, and no run was made for it."
        return "It says launched, and Dagster knows no run of it."
    if not ended_long_ago(newest):
        return None
    run = newest.dagster_run
    ended_at = newest.update_timestamp.replace(tzinfo=UTC)
    if run.tags.get(WILL_RETRY_TAG) == "true" and ended_at > datetime.now(UTC) - timedelta(seconds=RETRY_SECONDS):
        return None
    return f"Its run {run.run_id} ended as {run.status.value}, and nobody recorded it."


def _mend_request(work: Work, request_id: str) -> bool:
    with work.platform.database.read() as session:
        request = queries.requests_of(session, [request_id]).get(request_id)
    newest = _newest_runs(work, [request_id]).get(request_id)
    if request is None or request.state not in request_queries.ACTIVE or not _what_is_stuck(request, newest):
        return False
    if newest:
        finish_as_it_ended(work.instance, work.platform, newest.dagster_run)
    elif request.state == "queued":
        RequestStream(work.platform.redis).publish(StartMessage.of(request))
    else:
        with work.platform.database.session() as session:
            request_queries.mark_finished(session, request_id, error=json.dumps(GONE))
        live = LiveStatus(work.platform.redis)
        if live.belongs_to(request.video_identifier, run_id=request.run_id or "", request_id=request_id):
            live.finish(request.video_identifier, "failed", GONE)
        PipelineLock(work.platform.redis).release(request.video_identifier, request_id)
    return True
