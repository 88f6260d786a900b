"""Requests whose run ended while nobody heard of it: they end as the run did, once nothing can go on any more."""

import json

import dagster as dg
import dagster._core.definitions.job_base as dg_pipeline
import dagster._core.execution.api as dg_api
import pytest

from db.models import PipelineRequest
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests.defs.pipeline import execute, submit
from videomoments_dagster.defs.consistency import work
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG, WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.sensors import reconcile as reconcile_module
from videomoments_dagster.defs.sensors.reconcile import reconcile
from videomoments_dagster.defs.tracking import run_times
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.stages import STAGES_OF_ASSET, Stage
from videomoments_dagster.requests.status import LiveStatus

VIDEO = "talk"


@dg.op(out=dg.Out(dg.Nothing))
def video() -> None: ...


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def moments() -> None: ...


@dg.op(ins={"after": dg.In(dg.Nothing)})
def clips() -> None: ...


@dg.job(executor_def=dg.in_process_executor)
def three_steps() -> None:
    clips(moments(video()))


@pytest.fixture
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what happened had happened long ago."""
    monkeypatch.setattr(reconcile_module, "UNHEARD_SECONDS", 0)


def _begin(
    platform: PlatformResource, instance: dg.DagsterInstance, request_id: str, *, until: str, parent: str | None = None
) -> dg.DagsterRun:
    """A run of the request whose process is gone after the step `until`: Dagster was told nothing more."""
    tags = {PARTITION_TAG: VIDEO, REQUEST_TAG: request_id}
    run = instance.create_run_for_job(three_steps, tags=tags, parent_run_id=parent, root_run_id=parent)
    with platform.database.session() as session:
        request_queries.mark_launched(session, request_id, run.run_id)
    PipelineLock(platform.redis).acquire(VIDEO, request_id)
    LiveStatus(platform.redis).begin(
        VIDEO, request_id=request_id, pipeline_type="full", stages=Stage, run_id=run.run_id
    )
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", three_steps.name), run.run_id)
    steps = [step.key for step in dg_api.create_execution_plan(three_steps).get_all_steps_in_topo_order()]
    done = dg_api.create_execution_plan(three_steps, step_keys_to_execute=steps[: steps.index(until) + 1])
    list(dg_api.execute_plan_iterator(done, dg_pipeline.InMemoryJob(three_steps), run, instance))
    run = instance.get_run_by_id(run.run_id)
    assert run and run.status is dg.DagsterRunStatus.STARTED
    return run


def _fail(instance: dg.DagsterInstance, run: dg.DagsterRun, *, will_retry: bool) -> None:
    """What the run monitor and Dagster's retries do."""
    instance.report_run_failed(run, "The run was lost: its worker is gone.")
    instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: str(will_retry).lower()})


def _recorded(platform: PlatformResource, instance: dg.DagsterInstance, run: dg.DagsterRun, video: str) -> None:
    """The row in the history of a run that has begun."""
    started, _ = run_times(instance, run.run_id)
    with platform.database.session() as session:
        run_queries.record(session, video_identifier=video, pipeline_type="full", status="running", started_at=started)


def _reconcile(platform: PlatformResource, instance: dg.DagsterInstance) -> str:
    skipped = reconcile(dg.build_sensor_context(instance=instance, resources={"platform": platform}))
    assert isinstance(skipped, dg.SkipReason)
    return skipped.skip_message or ""


def _request(platform: PlatformResource, request_id: str) -> PipelineRequest:
    with platform.database.read() as session:
        row = request_queries.get(session, request_id)
    assert row
    return row


def _assert_ended(platform: PlatformResource, request_id: str, status: str) -> run_queries.RunView:
    """Everywhere, and the video is free. Its row in the history."""
    assert _request(platform, request_id).state == "finished"
    live = LiveStatus(platform.redis).read(VIDEO)
    assert live and live.status == status
    assert PipelineLock(platform.redis).owner(VIDEO) is None
    with platform.database.read() as session:
        [row] = run_queries.page(session, VIDEO).items
    assert (row.status, row.completed_at is not None) == (status, True)
    return row


def _assert_goes_on(platform: PlatformResource, request_id: str) -> None:
    assert _request(platform, request_id).state == "launched"
    live = LiveStatus(platform.redis).read(VIDEO)
    assert live and live.status == "running"
    assert PipelineLock(platform.redis).owner(VIDEO) == request_id
    with platform.database.read() as session:
        assert not run_queries.page(session, VIDEO).items


@pytest.mark.usefixtures("_later")
def test_a_run_that_was_killed_after_its_last_step_completed_its_request(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """There was nothing left that Dagster could have retried, and the video was shown as running for ever."""
    request_id = submit(platform, VIDEO, None)
    _fail(instance, _begin(platform, instance, request_id, until="clips"), will_retry=False)
    assert "ended: 1" in _reconcile(platform, instance)
    _assert_ended(platform, request_id, "completed")
    assert _request(platform, request_id).error is None
    assert "ended: 0" in _reconcile(platform, instance)


@pytest.mark.usefixtures("_later")
@pytest.mark.parametrize(("done", "begun", "status"), [("video", "moments", "failed"), ("moments", "clips", "partial")])
def test_a_run_that_was_lost_for_good_fails_its_request_and_says_where_and_why(
    platform: PlatformResource, instance: dg.DagsterInstance, done: str, begun: str, status: str
) -> None:
    request_id = submit(platform, VIDEO, None)
    run = _begin(platform, instance, request_id, until=done)
    instance.report_dagster_event(dg.DagsterEvent("STEP_START", three_steps.name, step_key=begun), run.run_id)
    RunLease(platform.redis, run.run_id).declare_lost("its worker process died")
    _fail(instance, run, will_retry=False)
    assert "ended: 1" in _reconcile(platform, instance)
    row = _assert_ended(platform, request_id, status)
    assert "its worker process died" in (row.error_message or "")
    assert row.error_stage == STAGES_OF_ASSET[begun][0]
    error = json.loads(_request(platform, request_id).error or "{}")
    assert (error["code"], error["retryable"]) == ("run_crashed", True)


@pytest.mark.usefixtures("_later")
def test_a_run_whose_step_failed_gives_its_request_the_steps_error(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """The daemon was away when it failed, and of the sensors this one was the first to look."""
    request_id = submit(platform, VIDEO, None)
    execute(platform, instance, VIDEO, request_id=request_id)
    assert "ended: 1" in _reconcile(platform, instance)
    assert _assert_ended(platform, request_id, "failed").error_stage == Stage.VIDEO_DOWNLOAD
    error = json.loads(_request(platform, request_id).error or "{}")
    assert (error["stage"], error["code"]) == (Stage.VIDEO_DOWNLOAD, "stage_input_missing")


@pytest.mark.usefixtures("_later")
def test_a_retry_that_found_the_moments_made_is_partial_too(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    request_id = submit(platform, VIDEO, None)
    first = _begin(platform, instance, request_id, until="moments")
    _fail(instance, first, will_retry=True)
    _fail(
        instance,
        _begin(platform, instance, request_id, until="video", parent=first.run_id),
        will_retry=False,
    )
    assert "ended: 1" in _reconcile(platform, instance)
    _assert_ended(platform, request_id, "partial")


@pytest.mark.usefixtures("_later")
def test_a_cancelled_run_that_nobody_heard_of_cancels_its_request(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    request_id = submit(platform, VIDEO, None)
    instance.report_run_canceled(_begin(platform, instance, request_id, until="video"))
    assert "ended: 1" in _reconcile(platform, instance)
    _assert_ended(platform, request_id, "cancelled")


@pytest.mark.usefixtures("_later")
def test_history_that_nobody_ended_is_ended_and_a_retry_goes_on(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster does not call a run-status sensor again whose handler failed."""
    request_id = submit(platform, VIDEO, None)
    lost = _begin(platform, instance, request_id, until="video")
    _recorded(platform, instance, lost, VIDEO)
    _fail(instance, lost, will_retry=True)
    retry = _begin(platform, instance, request_id, until="video", parent=lost.run_id)
    submit(platform, "by-hand", None)
    by_hand = instance.create_run_for_job(three_steps, tags={PARTITION_TAG: "by-hand"})
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", three_steps.name), by_hand.run_id)
    _recorded(platform, instance, by_hand, "by-hand")
    instance.report_run_canceled(by_hand)
    assert "runs: 0" in _reconcile(platform, instance), "the sensors hear of it, or the sweep's patience is not over"
    monkeypatch.setattr(work, "PATIENCE_SECONDS", 0)
    assert "runs: 2" in _reconcile(platform, instance)
    with platform.database.read() as session:
        ends = {row.video_identifier: row.status for row in run_queries.recent(session).items}
    assert ends == {VIDEO: "failed", "by-hand": "cancelled"}
    assert (_request(platform, request_id).state, retry.is_finished) == ("launched", False)
    assert PipelineLock(platform.redis).owner(VIDEO) == request_id
    assert "runs: 0" in _reconcile(platform, instance)


@pytest.mark.usefixtures("_later")
def test_requests_that_wait_hide_none_that_ended(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_module, "_MOST_LAUNCHED", 1)
    waiting = submit(platform, "waiting", None)
    instance.create_run_for_job(three_steps, tags={PARTITION_TAG: "waiting", REQUEST_TAG: waiting})
    request_id = submit(platform, VIDEO, None)
    instance.report_run_canceled(_begin(platform, instance, request_id, until="video"))
    assert "ended: 1" in _reconcile(platform, instance)
    assert (_request(platform, request_id).state, _request(platform, waiting).state) == ("finished", "queued")


@pytest.mark.usefixtures("_later")
def test_a_request_goes_on_while_its_run_is_at_work_or_will_be_retried(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    request_id = submit(platform, VIDEO, None)
    run = _begin(platform, instance, request_id, until="video")
    assert "ended: 0" in _reconcile(platform, instance)
    _assert_goes_on(platform, request_id)

    _fail(instance, run, will_retry=True)
    assert "ended: 0" in _reconcile(platform, instance)
    _assert_goes_on(platform, request_id)

    instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})  # people have started it again by hand
    _begin(platform, instance, request_id, until="video", parent=run.run_id)
    assert "ended: 0" in _reconcile(platform, instance)
    _assert_goes_on(platform, request_id)


def test_an_end_of_this_moment_is_left_to_the_sensors_that_hear_of_it(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    request_id = submit(platform, VIDEO, None)
    _fail(instance, _begin(platform, instance, request_id, until="clips"), will_retry=False)
    assert "ended: 0" in _reconcile(platform, instance)
    _assert_goes_on(platform, request_id)
