"""A run that is cancelled ends there, although its assets have a retry policy; one that waits is never started.

Cancelling through the API, in the queue and at work, is in tests/test_end_to_end.py.
"""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import ROOT_RUN_ID_TAG
from dagster._core.test_utils import create_run_for_test

from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests.defs.pipeline import execute, failure_of, submit
from tests.media.make import Drawing, draw
from tests.ranges import RangedFile, padded
from tests.web import serving
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG, lock_owner
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.sensors import cancel as cancel_module
from videomoments_dagster.defs.sensors import ingest as ingest_module
from videomoments_dagster.defs.sensors import reconcile as reconcile_module
from videomoments_dagster.defs.sensors.cancel import cancel as cancel_sensor
from videomoments_dagster.defs.sensors.ingest import ingest
from videomoments_dagster.defs.sensors.reconcile import reconcile
from videomoments_dagster.defs.workers.launcher import LeasedRunLauncher
from videomoments_dagster.requests.cancel import CancelFlag
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.temp_files import RESUME


def test_a_cancelled_run_stops_in_its_stage_and_is_not_tried_again(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster answers an interrupt with a retry where there is a policy: cancelled runs went on to their end. And what
    had arrived waited to be gone on with, as after a failure.
    """
    monkeypatch.setattr("dagster._core.definitions.policy.RetryPolicy.calculate_delay", lambda self, attempt: 0)
    ended, temp = threading.Event(), platform.settings.temp_directory

    def cancel(sent: int) -> bool:
        if not sent:
            return True
        while not (list(temp.rglob(RESUME)) or ended.wait(0.01)):
            pass
        [run] = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: request_id}))
        instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)  # as the process that launched the run does it
        return not ended.wait(30)

    server = RangedFile(padded(b""), before_block=cancel)
    with serving() as web:
        request_id = submit(platform, "talk", server.serve(web, "/talk.mp4"))
        try:
            result = execute(platform, instance, "talk", request_id=request_id)
        finally:
            ended.set()
        assert len(server.asked) == 1
    assert list(temp.iterdir()) == []
    run = instance.get_run_by_id(result.run_id)
    assert run and run.status is dg.DagsterRunStatus.CANCELED
    status = LiveStatus(platform.redis).read("talk")
    assert status and status.stages[0].status == "failed"
    assert status.stages[0].error and status.stages[0].error["code"] == "cancelled"


def test_an_interrupt_that_met_nobody_stops_the_run_at_its_next_stage(
    platform: PlatformResource, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """`make faults` cancelled a run while a stage's end was written down: Dagster retried the stage, and the run went
    on to its end."""
    video = draw(tmp_path / "talk.mp4", Drawing(seconds=1))
    with serving() as web:
        url = web.serve_file("/talk.mp4", video)
        send = web.answers["/talk.mp4"]

        def cancel(request: BaseHTTPRequestHandler) -> None:
            [run] = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: request_id}))
            instance.report_run_canceling(run)
            send(request)

        web.answers["/talk.mp4"] = cancel
        request_id = submit(platform, "talk", url)
        result = execute(platform, instance, "talk", request_id=request_id)
    assert failure_of(result)["code"] == "cancelled"
    assert {event.step_key for event in result.get_step_failure_events()} == {"audio"}
    run = instance.get_run_by_id(result.run_id)
    assert run and run.status is dg.DagsterRunStatus.CANCELED


def _cancel(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    cancel_sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))


def _reconcile(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    reconcile(dg.build_sensor_context(instance=instance, resources={"platform": platform}))


def _ingest(platform: PlatformResource, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    return ingest(dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform}))


def test_a_request_cancelled_before_it_has_a_run_never_gets_one(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message was lost with Redis; the wish stands in the row."""
    monkeypatch.setattr(cancel_module, "BLOCK_SECONDS", 0.01)
    monkeypatch.setattr(reconcile_module, "AFTER_SECONDS", 0)
    monkeypatch.setattr(ingest_module, "BLOCK_SECONDS", 0.01)
    request_id = submit(platform, "talk", "https://example.com/talk.mp4")
    lock, live = PipelineLock(platform.redis), LiveStatus(platform.redis)
    lock.acquire("talk", request_id)
    live.begin("talk", request_id=request_id, pipeline_type="full", stages=[])
    CancelFlag(platform.redis).order("talk", request_id)
    with platform.database.session() as session:
        assert request_queries.cancel(session, request_id)
    assert isinstance(_ingest(platform, instance), dg.SkipReason)
    _cancel(platform, instance)
    _reconcile(platform, instance)
    result = _ingest(platform, instance)
    assert not result.run_requests and not result.dynamic_partitions_requests
    with platform.database.read() as session:
        row = request_queries.get(session, request_id)
        [run] = run_queries.page(session, "talk").items
    assert row and row.state == "finished" and "cancelled" in (row.error or "")
    assert (run.status, run.started_at) == ("cancelled", row.requested_at)
    status = live.read("talk")
    assert status and status.status == "cancelled"
    assert lock.owner("talk") is CancelFlag(platform.redis).ordered("talk") is None
    with platform.database.session() as session:
        assert not request_queries.cancel(session, request_id), "it is over"
    _cancel(platform, instance)
    _reconcile(platform, instance)
    assert isinstance(_ingest(platform, instance, result.cursor), dg.SkipReason), "nothing is published again"


def test_cancelled_runs_end_their_requests_at_once_and_make_room_for_the_next(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ends of 200 came one by one by the run-status sensor, and the same oldest were looked at until then."""
    monkeypatch.setattr(cancel_module, "BLOCK_SECONDS", 0.01)
    monkeypatch.setattr(cancel_module, "BATCH", 2)
    for video in ("a", "b", "c"):
        request_id = submit(platform, video, f"https://example.com/{video}.mp4")
        tags = {PARTITION_TAG: video, REQUEST_TAG: request_id}
        create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE, tags=tags)
        create_run_for_test(instance, status=dg.DagsterRunStatus.CANCELED, tags=tags)
        with platform.database.session() as session:
            assert request_queries.cancel(session, request_id)
    for left in (1, 0):
        _cancel(platform, instance)
        with platform.database.read() as session:
            assert len(request_queries.to_cancel(session, 10)) == left
    with platform.database.read() as session:
        assert {run.status for run in run_queries.recent(session).items} == {"cancelled"}


def test_the_retry_of_a_lost_ui_run_has_its_lock_and_is_the_one_that_is_cancelled(
    platform: PlatformResource, instance: dg.DagsterInstance, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel_module, "BLOCK_SECONDS", 0.01)
    launcher = LeasedRunLauncher(redis_url)
    launcher.register_instance(instance)
    monkeypatch.setattr(instance, "_run_launcher", launcher)
    tags, waiting = {PARTITION_TAG: "talk"}, dg.DagsterRunStatus.STARTING
    lost = create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE, tags=tags)
    again = create_run_for_test(
        instance,
        status=waiting,
        tags={**tags, ROOT_RUN_ID_TAG: lost.run_id},
        root_run_id=lost.run_id,
        parent_run_id=lost.run_id,
    )
    other = create_run_for_test(instance, status=waiting, tags=tags)
    assert lock_owner(again) == lock_owner(lost) == lost.run_id
    CancelFlag(platform.redis).order("talk", lock_owner(lost))
    _cancel(platform, instance)
    ended = {run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELED]))}
    assert ended == {again.run_id} != {other.run_id}
