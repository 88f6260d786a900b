"""The end of a run: history, request, status and lock, whatever way it ended, and the same when told twice."""

import dagster as dg
import dagster._core.definitions.job_base as dg_pipeline
import dagster._core.execution.api as dg_api
import pytest

from db.queries import deletion
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests.defs.pipeline import execute, failure_of, submit
from videomoments_dagster.definitions import build_definitions
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import REQUEST_TAG, WILL_RETRY_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.sensors.run_status import run_cancelled, run_failed, run_succeeded
from videomoments_dagster.requests.cancel import CancelFlag
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.settings import get_settings


def _tell_failure(result: dg.ExecuteInProcessResult, platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    [event] = [event for event in result.all_events if event.event_type_value == "PIPELINE_FAILURE"]
    run = instance.get_run_by_id(result.run_id)
    assert run
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failed", dagster_event=event, dagster_instance=instance, dagster_run=run
    ).for_run_failure()
    run_failed(context, platform=platform)


def _tell(
    kind: str, result: dg.ExecuteInProcessResult, platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    run = instance.get_run_by_id(result.run_id)
    assert run
    context = dg.build_run_status_sensor_context(
        sensor_name=kind, dagster_event=result.all_events[-1], dagster_instance=instance, dagster_run=run
    )
    {"run_succeeded": run_succeeded, "run_cancelled": run_cancelled}[kind](context, platform=platform)


def _history(platform: PlatformResource, video: str) -> list[run_queries.RunView]:
    with platform.database.read() as session:
        return list(run_queries.page(session, video).items)


def test_a_failed_run_is_recorded_with_its_typed_error_and_lets_the_video_go(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    request_id = submit(platform, "bad", "http://127.0.0.1:1/none.txt", {})
    platform.redis.set("pipeline:bad:lock", request_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagster._core.definitions.policy.RetryPolicy.calculate_delay", lambda self, attempt: 0)
        patch.setenv("VIDEOMOMENTS_ALLOW_PRIVATE_URLS", "0")
        get_settings.cache_clear()
        result = execute(platform, instance, "bad", request_id=request_id)
    [running] = _history(platform, "bad")
    assert running.status == "running"
    for _ in range(2):
        _tell_failure(result, platform, instance)
        [row] = _history(platform, "bad")
        assert (row.status, row.error_stage) == ("failed", "VIDEO_DOWNLOAD")
        assert row.error_message and row.completed_at and row.duration_seconds is not None
        with platform.database.read() as session:
            request = request_queries.get(session, request_id)
        assert request and request.state == "finished" and '"code": "address_refused"' in (request.error or "")
        status = LiveStatus(platform.redis).read("bad")
        assert status and status.status == "failed" and status.error and status.error["code"] == "address_refused"
        assert PipelineLock(platform.redis).owner("bad") is None


def test_a_runs_details_are_kept_when_the_next_one_begins(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    request_id = submit(platform, "unknown", None)
    result = execute(platform, instance, "unknown", request_id=request_id)
    instance.add_run_tags(result.run_id, {WILL_RETRY_TAG: "true"})
    live = LiveStatus(platform.redis)
    for _ in range(2):
        _tell_failure(result, platform, instance)
        [row] = _history(platform, "unknown")
        lost = live.read_run("unknown", row.started_at)
        assert lost and (lost.status, lost.run_id, lost.request_id) == ("failed", result.run_id, request_id)
        assert lost.error and lost.stages[0].error and lost.stages[0].started_at
    live.run_started("unknown", "the-next")
    _tell_failure(result, platform, instance)
    [row] = _history(platform, "unknown")
    kept = live.read_run("unknown", row.started_at)
    assert kept and kept.run_id == result.run_id, "told once more, the next one's stages are not taken for its own"
    submit(platform, "other", None)
    cancelled = execute(platform, instance, "other")
    _tell("run_cancelled", cancelled, platform, instance)
    [row] = _history(platform, "other")
    details = live.read_run("other", row.started_at)
    assert details and (details.status, details.run_id) == ("cancelled", cancelled.run_id)


@pytest.mark.parametrize("when", ["deleted", "being deleted"])
def test_of_a_deleted_videos_run_nothing_is_recorded(
    platform: PlatformResource, instance: dg.DagsterInstance, when: str
) -> None:
    """Its end is heard of late, for instance when the daemon was away: the video must not come back half."""
    request_id = submit(platform, "gone", None)
    early = execute(platform, instance, "gone", request_id=request_id)
    with platform.database.session() as session:
        deletion.delete_rows(session, "gone")
        if when == "deleted":
            deletion.delete_requests(session, "gone")
    LiveStatus(platform.redis).forget("gone")
    _tell_failure(early, platform, instance)
    instance.add_run_tags(early.run_id, {WILL_RETRY_TAG: "true"})
    _tell_failure(early, platform, instance)
    late = execute(platform, instance, "gone", request_id=request_id)
    assert "was deleted" in str(failure_of(late)["message"])
    _tell_failure(late, platform, instance)
    assert _history(platform, "gone") == []
    assert platform.redis.keys("pipeline:gone:*") == []


def test_of_a_run_that_dagster_will_retry_only_the_run_is_over(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """The history of a video whose worker was killed once showed that run as running for ever."""
    request_id = submit(platform, "unknown", None)
    result = execute(platform, instance, "unknown", request_id=request_id)
    instance.add_run_tags(result.run_id, {WILL_RETRY_TAG: "true"})
    _tell_failure(result, platform, instance)
    [row] = _history(platform, "unknown")
    assert (row.status, row.completed_at is not None) == ("failed", True)
    assert "Another run" in (row.error_message or "")
    with platform.database.read() as session:
        request = request_queries.get(session, request_id)
    assert request and request.state == "launched"
    status = LiveStatus(platform.redis).read("unknown")
    assert status and status.status == "running"
    assert PipelineLock(platform.redis).owner("unknown") == request_id


def test_a_cancelled_run_is_recorded_as_cancelled(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    """Re-executed in the UI it has the same request: the flag that is left over would end it at once."""
    request_id = submit(platform, "unknown", None)
    result = execute(platform, instance, "unknown", request_id=request_id)
    flag = CancelFlag(platform.redis)
    flag.order("unknown", "another")
    _tell("run_cancelled", result, platform, instance)
    assert flag.ordered("unknown") == "another"
    flag.order("unknown", request_id)
    _tell("run_cancelled", result, platform, instance)
    [row] = _history(platform, "unknown")
    assert (row.status, row.error_stage) == ("cancelled", None)
    status = LiveStatus(platform.redis).read("unknown")
    assert status and status.status == "cancelled"
    assert flag.ordered("unknown") is None


def test_a_run_of_checks_alone_is_no_run_of_the_pipeline(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(VIDEOS, ["talk"])
    job = build_definitions(platform=platform).resolve_job_def("video_checks")
    result = job.execute_in_process(instance=instance, tags={"dagster/partition": "talk"}, raise_on_error=False)
    _tell("run_succeeded", result, platform, instance)
    assert _history(platform, "talk") == []


def test_a_redis_that_is_away_does_not_keep_the_history_from_being_written(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(platform, "unknown", None)
    result = execute(platform, instance, "unknown")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    _tell_failure(result, platform, instance)
    [row] = _history(platform, "unknown")
    assert (row.status, row.error_message is not None) == ("failed", True)


def test_an_older_runs_end_does_not_touch_a_newer_requests_status(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    submit(platform, "unknown", None)
    result = execute(platform, instance, "unknown")
    LiveStatus(platform.redis).begin("unknown", request_id="newer", pipeline_type="full", stages=Stage)
    _tell_failure(result, platform, instance)
    status = LiveStatus(platform.redis).read("unknown")
    assert status and (status.status, status.request_id) == ("queued", "newer")
    [row] = _history(platform, "unknown")
    assert row.status == "failed"


def test_a_retry_that_had_only_checks_left_ends_its_requests_status(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """Its worker died after the last stage: no stage of the retry told that it had taken over, and the video was shown
    as running for ever."""
    request_id = submit(platform, "talk", None)
    LiveStatus(platform.redis).begin("talk", request_id=request_id, pipeline_type="full", stages=Stage, run_id="lost")
    instance.add_dynamic_partitions(VIDEOS, ["talk"])
    job = dg.define_asset_job("the_rest", selection=dg.AssetSelection.checks_for_assets("scores"))
    definitions = dg.Definitions.merge(build_definitions(platform=platform), dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("the_rest").execute_in_process(
        instance=instance, tags={"dagster/partition": "talk", REQUEST_TAG: request_id}, raise_on_error=False
    )
    _tell("run_succeeded", result, platform, instance)
    status = LiveStatus(platform.redis).read("talk")
    assert status and status.status == "completed"


def test_a_run_of_selected_assets_waits_for_their_stages_only(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """Materializing `moments` in the UI: nothing else is pending, whatever else the pipeline has."""
    submit(platform, "talk", None)
    instance.add_dynamic_partitions(VIDEOS, ["talk"])
    job = dg.define_asset_job("only_moments", selection=dg.AssetSelection.assets("moments").without_checks())
    definitions = dg.Definitions.merge(build_definitions(platform=platform), dg.Definitions(jobs=[job]))
    resolved = definitions.resolve_job_def("only_moments")
    run = instance.create_run_for_job(
        resolved, asset_selection=frozenset({dg.AssetKey("moments")}), tags={"dagster/partition": "talk"}
    )
    list(dg_api.execute_run_iterator(dg_pipeline.InMemoryJob(resolved), run, instance))
    status = LiveStatus(platform.redis).read("talk")
    assert status
    assert {stage.stage for stage in status.stages if stage.status != "skipped"} == {Stage.MOMENT_GENERATION}
