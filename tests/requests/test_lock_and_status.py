"""The lock's ownership and the live status hash."""

from datetime import UTC, datetime

import redis as redis_client

from videomoments_dagster.errors import NotAVideo
from videomoments_dagster.requests.lock import TTL_SECONDS, PipelineLock
from videomoments_dagster.requests.stages import STAGES_OF, PipelineType, Stage
from videomoments_dagster.requests.status import LiveStatus


def test_one_owner_holds_the_lock_until_it_lets_go(redis: "redis_client.Redis") -> None:
    lock = PipelineLock(redis)
    assert lock.acquire("talk", "a")
    assert lock.acquire("talk", "a"), "its owner may ask again"
    assert not lock.acquire("talk", "b")
    assert not lock.release("talk", "b")
    assert lock.owner("talk") == "a"
    assert lock.release("talk", "a")
    assert lock.acquire("talk", "b")


def test_only_the_owner_renews_and_a_dead_owner_is_forgotten(redis: "redis_client.Redis") -> None:
    lock = PipelineLock(redis)
    lock.acquire("talk", "a")
    redis.expire("pipeline:talk:lock", 5)
    assert not lock.renew("talk", "b")
    assert lock.renew("talk", "a")
    assert TTL_SECONDS - 5 <= int(str(redis.ttl("pipeline:talk:lock"))) <= TTL_SECONDS
    redis.delete("pipeline:talk:lock")
    assert not lock.renew("talk", "a")


def test_a_pipeline_is_told_from_queued_to_completed(redis: "redis_client.Redis") -> None:
    status = LiveStatus(redis)
    status.begin("talk", request_id="r", pipeline_type="clips_only", stages=STAGES_OF[PipelineType.CLIPS_ONLY])
    status.run_started("talk", "run")
    status.stage_started("talk", Stage.CLIP_EXTRACTION)
    status.stage_progress("talk", Stage.CLIP_EXTRACTION, 0.5)
    seen = status.read("talk")
    assert seen and (seen.status, seen.request_id, seen.run_id) == ("running", "r", "run")
    by_stage = {stage.stage: stage for stage in seen.stages}
    assert by_stage[Stage.CLIP_EXTRACTION].progress == 0.5
    assert by_stage[Stage.VIDEO_DOWNLOAD].status == "skipped"
    assert by_stage[Stage.THUMBNAILS].status == "pending"
    status.stage_completed("talk", Stage.CLIP_EXTRACTION)
    status.finish("talk", "completed")
    done = status.read("talk")
    assert done and done.status == "completed" and done.completed_at
    assert 0 < int(str(redis.ttl("pipeline:talk:active"))) <= 24 * 3600


def test_a_failed_stage_says_what_and_a_retry_forgets_it(redis: "redis_client.Redis") -> None:
    status = LiveStatus(redis)
    status.begin("talk", request_id=None, pipeline_type="full", stages=Stage, run_id="run")
    error = NotAVideo("talk.mp4 is a web page.").as_dict(Stage.VIDEO_DOWNLOAD)
    status.stage_failed("talk", Stage.VIDEO_DOWNLOAD, error)
    failed = status.read("talk")
    assert failed and failed.stages[0].error == error
    assert set(error) == {"stage", "code", "message", "hint", "retryable"}
    status.stage_started("talk", Stage.VIDEO_DOWNLOAD)
    again = status.read("talk")
    assert again and (again.stages[0].error, again.stages[0].status) == (None, "running")


def test_a_new_start_forgets_the_last_one(redis: "redis_client.Redis") -> None:
    status = LiveStatus(redis)
    status.begin("talk", request_id="old", pipeline_type="full", stages=Stage)
    status.finish("talk", "failed", {"code": "x"})
    status.begin("talk", request_id="new", pipeline_type="full", stages=Stage)
    seen = status.read("talk")
    assert seen and (seen.status, seen.request_id, seen.error, seen.completed_at) == ("queued", "new", None, None)
    assert redis.ttl("pipeline:talk:active") == -1, "it must not expire while it waits"


def test_a_stage_whose_process_died_ends_with_its_run(redis: "redis_client.Redis") -> None:
    status, started = LiveStatus(redis), datetime(2026, 1, 1, tzinfo=UTC)
    status.begin("talk", request_id="r", pipeline_type="full", stages=Stage, run_id="run")
    status.stage_completed("talk", Stage.VIDEO_DOWNLOAD)
    status.stage_started("talk", Stage.TRANSCRIPTION)
    lost = {"stage": "TRANSCRIPTION", "code": "run_crashed", "message": "Lost.", "hint": "", "retryable": True}
    status.keep_run("talk", started, "run", "failed", lost)
    live, kept = status.read("talk"), status.read_run("talk", started)
    assert live and kept
    stages = {each.stage: each for each in kept.stages}
    assert (stages[Stage.TRANSCRIPTION].status, stages[Stage.TRANSCRIPTION].error) == ("failed", lost)
    assert (stages[Stage.VIDEO_DOWNLOAD].status, stages[Stage.SCORING].status) == ("completed", "pending")
    assert (live.status, live.stages[3].status) == ("running", "running"), "another run goes on with it"
    status.finish("talk", "failed", lost)
    ended = status.read("talk")
    assert ended and (ended.stages[3].status, ended.stages[3].error) == ("failed", lost)


def test_nothing_is_known_of_a_video_that_never_ran(redis: "redis_client.Redis") -> None:
    assert LiveStatus(redis).read("talk") is None
