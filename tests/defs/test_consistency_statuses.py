"""The consistency sweep over what waits, runs and is held: requests, history, live statuses, locks, pool slots."""

import json
from typing import Any

import dagster as dg
import pytest

from db.models import PipelineRequest
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests.defs.pipeline import submit
from videomoments_dagster.defs.consistency import requests as requests_module
from videomoments_dagster.defs.consistency import work
from videomoments_dagster.defs.consistency.report import Kind, Report
from videomoments_dagster.defs.consistency.sweep import sweep
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG, WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import run_times
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.requests.stream import STREAM

Found = list[tuple[Kind, str]]


@pytest.fixture(autouse=True)
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if everything had happened long ago."""
    monkeypatch.setattr(work, "PATIENCE_SECONDS", 0)


@dg.op
def transcript() -> None: ...


@dg.job
def pipeline() -> None:
    transcript()


def begin(platform: PlatformResource, instance: dg.DagsterInstance, video: str, request_id: str | None) -> str:
    """A run at work, as it reports itself; returns its id."""
    tags = {PARTITION_TAG: video} | ({REQUEST_TAG: request_id} if request_id else {})
    run = instance.create_run_for_job(pipeline, tags=tags)
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", pipeline.name), run.run_id)
    record(platform, instance, video, run.run_id, "running")
    if request_id:
        with platform.database.session() as session:
            request_queries.mark_launched(session, request_id, run.run_id)
    PipelineLock(platform.redis).acquire(video, request_id or run.run_id)
    LiveStatus(platform.redis).begin(
        video, request_id=request_id, pipeline_type="full", stages=Stage, run_id=run.run_id
    )
    instance.add_dynamic_partitions(VIDEOS, [video])
    return run.run_id


def record(platform: PlatformResource, instance: dg.DagsterInstance, video: str, run_id: str, status: str) -> None:
    """The run's row in the history."""
    started, _ = run_times(instance, run_id)
    with platform.database.session() as session:
        run_queries.record(session, video_identifier=video, pipeline_type="full", status=status, started_at=started)


def fail(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    assert run
    instance.report_run_failed(run)


def found(report: Report) -> Found:
    return [(each.kind, each.video) for each in report.findings]


def request_of(platform: PlatformResource, request_id: str) -> PipelineRequest:
    with platform.database.read() as session:
        request = request_queries.get(session, request_id)
    assert request
    return request


def history(platform: PlatformResource, video: str) -> list[tuple[str, str | None]]:
    with platform.database.read() as session:
        return [(run.status, run.error_message) for run in run_queries.page(session, video).items]


def status(platform: PlatformResource, video: str) -> str | None:
    live = LiveStatus(platform.redis).read(video)
    return live.status if live else None


def test_what_lives_is_left_alone(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.event_log_storage.set_concurrency_slots("transcription", 1)
    asked, by_hand = submit(platform, "asked", None), None
    begin(platform, instance, "long" * 24, submit(platform, "long" * 24, None))  # its row has the name in part
    for video, request_id in (("asked", asked), ("by-hand", by_hand)):
        instance.event_log_storage.claim_concurrency_slot(
            "transcription", begin(platform, instance, video, request_id), "transcript"
        )
    retried = submit(platform, "retried", None)
    run_id = begin(platform, instance, "retried", retried)
    fail(instance, run_id)
    instance.add_run_tags(run_id, {WILL_RETRY_TAG: "true"})
    record(platform, instance, "retried", run_id, "failed")
    assert found(sweep(instance, platform, fix=True)) == []
    assert [status(platform, video) for video in ("asked", "by-hand", "retried")] == ["running"] * 3
    assert [PipelineLock(platform.redis).owner(video) for video in ("asked", "retried")] == [asked, retried]

    monkeypatch.setattr(requests_module, "RETRY_SECONDS", 0)  # the retry never came
    assert found(sweep(instance, platform, fix=True)) == [(Kind.STUCK_REQUEST, "retried")]
    assert (request_of(platform, retried).state, status(platform, "retried")) == ("finished", "failed")
    assert found(sweep(instance, platform, fix=True)) == []


def test_runs_that_ended_or_are_gone_end_everything_that_says_they_run(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    ended, gone = submit(platform, "ended", None), submit(platform, "gone", None)
    fail(instance, begin(platform, instance, "ended", ended))
    instance.delete_run(begin(platform, instance, "gone", gone))
    instance.delete_run(begin(platform, instance, "by-hand", None))
    dry = sweep(instance, platform, fix=False)
    assert sorted(found(dry)) == sorted(
        [
            (Kind.STUCK_REQUEST, "ended"),
            (Kind.STUCK_REQUEST, "gone"),
            *((Kind.STUCK_HISTORY, video) for video in ("ended", "gone", "by-hand")),
            (Kind.STUCK_STATUS, "by-hand"),
            (Kind.LEAKED_LOCK, "by-hand"),
        ]
    )
    assert {request_of(platform, each).state for each in (ended, gone)} == {"launched"}
    assert status(platform, "by-hand") == "running"

    mended = sweep(instance, platform, fix=True, delete=True)
    assert (mended.left, mended.found[Kind.STUCK_REQUEST]) == (0, 2)
    for video in ("ended", "gone", "by-hand"):
        [(ended_as, why)] = history(platform, video)
        assert (ended_as, bool(why)) == ("failed", True)
        assert PipelineLock(platform.redis).owner(video) is None
    assert [status(platform, video) for video in ("ended", "gone", "by-hand")] == ["failed", "failed", None]
    request = request_of(platform, gone)
    assert (request.state, json.loads(request.error or "")["code"]) == ("finished", "run_crashed")
    assert found(sweep(instance, platform, fix=True)) == []


def test_a_request_that_no_run_was_made_for_is_published_again_when_nobody_else_will(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = submit(platform, "asked", "https://example.org/talk.mp4")
    fail(instance, begin(platform, instance, "ended", submit(platform, "ended", None)))
    with monkeypatch.context() as now:
        now.setattr(work, "PATIENCE_SECONDS", 300)
        assert found(sweep(instance, platform, fix=True)) == [], "the sensors hear of what just happened"
    assert (Kind.STUCK_REQUEST, "asked") in found(sweep(instance, platform, fix=False))
    assert platform.redis.xlen(STREAM) == 0
    assert sweep(instance, platform, fix=True).left == 0
    entries: Any = platform.redis.xrange(STREAM)
    assert [fields["request_id"] for _, fields in entries] == [request_id]


def test_leaked_statuses_locks_and_slots_are_freed(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots("transcription", 1)
    request_id = submit(platform, "talk", None)
    run_id = begin(platform, instance, "talk", request_id)
    fail(instance, run_id)
    record(platform, instance, "talk", run_id, "failed")  # Redis was away then
    with platform.database.session() as session:
        request_queries.mark_finished(session, request_id)
    storage.claim_concurrency_slot("transcription", run_id, "transcript")
    storage.claim_concurrency_slot("transcription", "a-run-that-is-gone", "transcript")
    dry = sweep(instance, platform, fix=False)
    assert sorted(found(dry)) == sorted(
        [
            (Kind.STUCK_STATUS, "talk"),
            (Kind.LEAKED_LOCK, "talk"),
            (Kind.LEAKED_SLOT, "talk"),
            (Kind.LEAKED_SLOT, ""),
        ]
    )
    assert {each.wrong for each in dry.findings if each.kind is Kind.LEAKED_SLOT} == {
        "The run is over and holds a slot of transcription for transcript.",
        "The run is over and holds a place in the queue of transcription for transcript.",
    }
    assert (status(platform, "talk"), PipelineLock(platform.redis).owner("talk")) == ("running", request_id)
    mended = sweep(instance, platform, fix=True)
    assert mended.left == 0
    assert (status(platform, "talk"), PipelineLock(platform.redis).owner("talk")) == ("failed", None)
    assert storage.get_concurrency_run_ids() == set()
    assert found(sweep(instance, platform, fix=True)) == []
