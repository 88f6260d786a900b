"""What a stage does for its run, seen on small assets that stand in for the real ones."""

import logging
from collections.abc import Callable

import dagster as dg
import pytest

from db.queries import deletion
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests.defs.pipeline import submit
from videomoments_dagster.defs.checks import video_check
from videomoments_dagster.defs.partitions import VIDEOS, videos
from videomoments_dagster.defs.policies import REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.run_end import error_of, finish
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.stages import Stage

TWICE = dg.RetryPolicy(max_retries=1)


def _run(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    body: Callable[[dg.AssetExecutionContext], None],
    *,
    request_id: str | None = None,
    check_passes: bool = True,
) -> dg.DagsterRun:
    """A run of a `transcript` that is made by `body`."""

    @dg.asset(partitions_def=videos, retry_policy=TWICE)
    def transcript(context: dg.AssetExecutionContext) -> None:
        body(context)

    @dg.asset_check(asset=transcript, blocking=True, partitions_def=videos)
    def words_in_order() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=check_passes)

    @dg.asset(partitions_def=videos, deps=[transcript])
    def moments() -> None: ...

    instance.add_dynamic_partitions(VIDEOS, ["talk"])
    result = dg.materialize(
        [transcript, words_in_order, moments],
        instance=instance,
        partition_key="talk",
        tags={REQUEST_TAG: request_id} if request_id else {},
        raise_on_error=False,
    )
    run = instance.get_run_by_id(result.run_id)
    assert run
    return run


def test_a_lock_that_redis_lost_is_taken_again_by_the_next_stage(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    request_id, owners = submit(platform, "talk", None), []

    def body(context: dg.AssetExecutionContext) -> None:
        with stage(context, platform, Stage.AUDIO_EXTRACTION):
            platform.redis.flushdb()
        with stage(context, platform, Stage.AUDIO_UPLOAD):
            owners.append(PipelineLock(platform.redis).owner("talk"))

    assert _run(platform, instance, body, request_id=request_id).is_success
    assert owners == [request_id]


def test_a_defect_keeps_its_name_and_its_stage_and_is_not_tried_again(
    platform: PlatformResource, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    request_id, attempts = submit(platform, "talk", None), []

    def broken(context: dg.AssetExecutionContext) -> None:
        attempts.append("in a stage")
        with stage(context, platform, Stage.TRANSCRIPTION):
            raise KeyError("words")

    def outside(_context: dg.AssetExecutionContext) -> None:
        attempts.append("outside")
        raise KeyError("words")

    with caplog.at_level(logging.ERROR, logger="videomoments.stages"):
        run = _run(platform, instance, broken, request_id=request_id)
    error = error_of(instance, platform, run)
    assert (error["stage"], error["code"], error["retryable"]) == ("TRANSCRIPTION", "internal_error", False)
    assert "KeyError" in error["message"]
    assert any("raise KeyError" in record.exc_text for record in caplog.records if record.exc_text)
    error = error_of(instance, platform, _run(platform, instance, outside, request_id=request_id))
    assert (error["stage"], error["message"]) == ("TRANSCRIPTION", "KeyError: 'words'")
    assert attempts == ["in a stage", "outside", "outside"]


def test_a_check_that_meets_a_service_that_is_away_looks_again(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """Redis restarted while clips were compared with their rows: two videos ended as an internal error."""
    looks = []

    @dg.asset(partitions_def=videos)
    def transcript() -> None: ...

    @video_check(transcript, blocking=True)
    def words_in_order(_context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
        looks.append(platform)
        if len(looks) == 1:
            raise ServiceUnavailable("Redis does not answer.")
        return dg.AssetCheckResult(passed=True)

    instance.add_dynamic_partitions(VIDEOS, ["talk"])
    resources = {"platform": platform}
    result = dg.materialize([transcript, words_in_order], instance=instance, partition_key="talk", resources=resources)
    assert result.success and len(looks) == 2
    [again] = [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert "ServiceUnavailable" in str(again.event_specific_data)


def test_a_check_that_blocks_is_told_as_its_assets_stage(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    run = _run(platform, instance, lambda context: None, check_passes=False)
    error = error_of(instance, platform, run)
    assert (error["stage"], error["code"]) == ("TRANSCRIPTION", "check_failed")


@pytest.mark.parametrize("when", ["deleted", "being deleted"])
def test_a_run_from_the_ui_does_not_bring_a_deleted_video_back(
    platform: PlatformResource, instance: dg.DagsterInstance, when: str
) -> None:
    """It has no request that could say so. Nor does the request of a run that is re-executed, once it is over."""
    done = submit(platform, "talk", None)
    with platform.database.session() as session:
        request_queries.mark_finished(session, done)
        deletion.delete_rows(session, "talk")
        if when == "deleted":
            deletion.delete_requests(session, "talk")

    def body(context: dg.AssetExecutionContext) -> None:
        with stage(context, platform, Stage.TRANSCRIPTION):
            pytest.fail("The stage is not to begin.")

    for request_id in (None, done):
        run = _run(platform, instance, body, request_id=request_id)
        error = error_of(instance, platform, run)
        assert error["code"] == "not_found"
        finish(instance, platform, run, "failed", error)
    with platform.database.read() as session:
        assert list(run_queries.page(session, "talk").items) == []
    assert platform.redis.keys("pipeline:talk:*") == []
