"""The ingest and reconcile sensors: nothing lost, nothing twice, nothing held up by a message that makes no sense."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import redis as redis_client
import sqlalchemy

from db.queries import deletion, locks
from db.queries import requests as request_queries
from db.queries import runs as run_queries
from tests import factories
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.sensors import ingest as ingest_module
from videomoments_dagster.defs.sensors.ingest import ingest
from videomoments_dagster.defs.sensors.reconcile import reconcile
from videomoments_dagster.identifiers import distinct_identifier
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.requests.stream import DEAD, STREAM, DeleteMessage, RequestStream, StartMessage
from videomoments_dagster.settings import get_settings


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "BLOCK_SECONDS", 0.01)


def _tick(platform: PlatformResource, instance: dg.DagsterInstance, cursor: str | None = None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform})
    return ingest(context)


def _partitions(result: dg.SensorResult) -> list[Any]:
    return list(result.dynamic_partitions_requests or [])


def _dead(platform: PlatformResource) -> list[dict[str, str]]:
    entries: Any = platform.redis.xrange(DEAD)
    return [fields for _, fields in entries]


def _submit(platform: PlatformResource, request_id: str, video: str, kind: PipelineType = PipelineType.FULL) -> None:
    """What the API does: the row, then the message."""
    url = f"https://example.com/{video}.mp4"
    with platform.database.session() as session:
        request_queries.create(
            session, request_id=request_id, video_identifier=video, source_url=url, pipeline_type=kind, config={}
        )
    RequestStream(platform.redis).publish(StartMessage(request_id, video, kind, url, {}))


def test_a_request_becomes_a_partition_and_a_run(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    _submit(platform, "r1", "talk")
    _submit(platform, "r2", "show", PipelineType.CLIPS_ONLY)
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    assert [(run.run_key, run.partition_key, run.job_name) for run in result.run_requests or ()] == [
        ("r1", "talk", "video_pipeline"),
        ("r2", "show", "clips_pipeline"),
    ]
    [request] = _partitions(result)
    assert list(request.partition_keys) == ["talk", "show"]
    assert result.cursor == platform.redis.xinfo_stream(STREAM)["last-generated-id"]  # pyright: ignore[reportIndexIssue]
    assert isinstance(_tick(platform, instance, result.cursor), dg.SkipReason)


def test_a_request_chooses_what_its_run_does(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    """A text-only refinement model leaves the clips out; one moment alone comes with all that was asked for it."""
    stream, url = RequestStream(platform.redis), "https://example.com/talk.mp4"
    platform.models.registry.change("minimax", {"base_url": "http://127.0.0.1:9"})
    moment = {"moment": "aaaaaaaaaaaaaaaa", "max_moment_length": 60.0, "queue": "gpu"}
    for request, kind, config in (
        ("text", PipelineType.FULL, {"refinement_model": "minimax"}),
        ("text-with", PipelineType.MOMENTS_ONLY, {"refinement_model": "minimax", "cut_clips": True}),
        ("text-again", PipelineType.MOMENTS_ONLY, {"refinement_model": "minimax"}),
        ("clips", PipelineType.CLIPS_ONLY, {"refinement_model": "minimax"}),
        ("video", PipelineType.FULL, {"refinement_model": "qwen3_vl_fp8"}),
        ("builtin", PipelineType.FULL, {"refinement_model": "builtin_moments"}),
        ("without", PipelineType.FULL, {"cut_clips": False}),
        ("unknown", PipelineType.FULL, {"refinement_model": "nobody"}),
        ("one", PipelineType.REFINEMENT_ONLY, moment),
        ("all", PipelineType.REFINEMENT_ONLY, {}),
    ):
        stream.publish(StartMessage(request, request, kind, url, config))
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult) and result.run_requests
    runs = {run.run_key: run for run in result.run_requests}
    selected = {
        name: {key.to_user_string() for key in run.asset_selection} if run.asset_selection else None
        for name, run in runs.items()
    }
    text_only = {"moments", "refined_moments", "scores", "thumbnails"}
    assert selected == {
        "text": text_only | {"video", "audio", "transcript"},
        "text-with": None,
        "text-again": text_only,
        "clips": None,
        "video": None,
        "builtin": None,
        "without": text_only | {"video", "audio", "transcript"},
        "unknown": None,
        "one": None,
        "all": None,
    }
    asked = {name: run.run_config for name, run in runs.items() if run.run_config}
    overrides = asked.pop("one")["ops"]["refined_moments"]["config"]["overrides"]
    assert asked == {} and overrides["moment"] == "aaaaaaaaaaaaaaaa" and overrides["max_moment_length"] == 60.0
    assert runs["one"].run_config["ops"]["scores"]["config"]["overrides"] == overrides


def test_a_request_chooses_its_queue(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    requests = RequestStream(platform.redis)
    requests.publish(StartMessage("r1", "talk", PipelineType.FULL, "https://example.com/talk.mp4", {"queue": "gpu"}))
    requests.publish(StartMessage("r2", "show", PipelineType.FULL, "https://example.com/show.mp4", {}))
    requests.publish(StartMessage("r3", "bad", PipelineType.FULL, "https://example.com/bad.mp4", {"queue": "a,b"}))
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    queues = {run.run_key: run.tags.get("dagster-celery/queue") for run in result.run_requests or ()}
    assert queues == {"r1": "gpu", "r2": None}
    [dead] = _dead(platform)
    assert "queue" in dead["dead_reason"]


def test_a_tick_that_died_before_its_cursor_was_stored_is_repeated_whole(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """Killed between read and submit: the same cursor is read again and asks for the same run keys, so that what
    Dagster had submitted already is not submitted twice, and what it had not is not lost."""
    _submit(platform, "r1", "talk")
    _submit(platform, "r2", "show")
    first, again = _tick(platform, instance), _tick(platform, instance)
    assert isinstance(first, dg.SensorResult) and isinstance(again, dg.SensorResult)
    assert (
        [run.run_key for run in first.run_requests or ()]
        == [run.run_key for run in again.run_requests or ()]
        == ["r1", "r2"]
    )


def test_a_message_that_is_there_twice_asks_for_one_run(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    _submit(platform, "r1", "talk")
    RequestStream(platform.redis).publish(StartMessage("r1", "talk", PipelineType.FULL, None, {}))
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    assert [run.run_key for run in result.run_requests or ()] == ["r1"]


def test_a_finished_request_is_not_started_again_when_the_cursor_is_lost(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    _submit(platform, "r1", "talk")
    with platform.database.session() as session:
        request_queries.mark_finished(session, "r1")
    result = _tick(platform, instance, cursor=None)
    assert isinstance(result, dg.SensorResult)
    assert not result.run_requests


def test_poison_goes_to_the_dead_letters_and_the_rest_goes_on(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    for poison in (
        {"request_id": "r0", "video_id": "../etc"},
        {"nonsense": "1"},
        {"request_id": b"\xff\xfe", "video_id": "v"},
        {"request_id": "r0", "url": "http://[::1"},
        {"request_id": "r0", "url": "http://example.com:99999/a.mp4"},
        {"request_id": "r0", "video_id": "v", "config": '{"title":' + "[" * 100_000},
        {"request_id": "r\0", "video_id": "v"},
        {"request_id": "r0", "video_id": "v", "config": '{"title": "a\\u0000b"}'},
    ):
        platform.redis.xadd(STREAM, poison)  # pyright: ignore[reportArgumentType]
    _submit(platform, "r1", "talk")
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    assert [run.run_key for run in result.run_requests or ()] == ["r1"]
    reasons = [fields["dead_reason"].split(":")[0] for fields in _dead(platform)]
    assert reasons == ["invalid_identifier", *["invalid_input"] * 7]
    assert _dead(platform)[2]["request_id"].encode(errors="surrogateescape") == b"\xff\xfe", "as it was"
    assert isinstance(_tick(platform, instance, result.cursor), dg.SkipReason)


def test_another_producers_message_gets_its_durable_row(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    platform.redis.xadd(
        STREAM, {"request_id": "x1", "url": "https://example.com/My Talk.mp4", "config": '{"max_moments": 2}'}
    )
    assert isinstance(_tick(platform, instance), dg.SensorResult)
    with platform.database.read() as session:
        row = request_queries.get(session, "x1")
    assert row and (row.video_identifier, row.source_url, row.config, row.state) == (
        "My-Talk",
        "https://example.com/My Talk.mp4",
        {"max_moments": 2},
        "queued",
    )


def test_another_producer_cant_take_a_videos_identifier_for_another_url(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    _submit(platform, "r1", "talk")
    platform.redis.xadd(STREAM, {"request_id": "x1", "video_id": "talk", "url": "https://elsewhere.example/other.mp4"})
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    assert [run.run_key for run in result.run_requests or ()] == ["r1"]
    [dead] = _dead(platform)
    assert dead["dead_reason"].startswith("conflict:")


def test_another_producers_request_id_is_one_videos_and_its_urls_get_identifiers_of_their_own(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    _submit(platform, "r1", "talk")
    for fields in (
        {"request_id": "r1", "video_id": "show", "url": "https://example.com/show.mp4"},
        {"request_id": "r1", "url": "https://example.com/other/talk.mp4"},
        {"request_id": "x1", "url": "https://elsewhere.example/talk.mp4?utm_source=a"},
        {"request_id": "x1", "url": "https://ELSEWHERE.example/talk.mp4"},  # sent again
        {"request_id": "x2", "url": "https://example.com:443/talk.mp4"},
    ):
        platform.redis.xadd(STREAM, fields)  # pyright: ignore[reportArgumentType]
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    other = distinct_identifier("talk", "https://elsewhere.example/talk.mp4")
    launched = [(run.run_key, run.partition_key) for run in result.run_requests or ()]
    assert launched == [("r1", "talk"), ("x1", other), ("x2", "talk")]
    assert [fields["dead_reason"].partition(":")[0] for fields in _dead(platform)] == ["conflict", "conflict"]
    with platform.database.read() as session:
        row = request_queries.get(session, "r1")
    assert row and (row.video_identifier, row.state) == ("talk", "queued"), "what only bears its id ends nothing"


def test_a_deleted_video_loses_its_partition_and_a_later_start_adds_it_again(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(VIDEOS, ["talk", "other"])
    stream = RequestStream(platform.redis)
    stream.publish(DeleteMessage("talk"))
    stream.publish(DeleteMessage("never-was"))
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    [request] = _partitions(result)
    assert isinstance(request, dg.DeleteDynamicPartitionsRequest) and list(request.partition_keys) == ["talk"]

    stream.publish(DeleteMessage("other"))
    _submit(platform, "r9", "other")
    both = _tick(platform, instance, result.cursor)
    assert isinstance(both, dg.SensorResult)
    [request] = _partitions(both)
    assert isinstance(request, dg.AddDynamicPartitionsRequest) and list(request.partition_keys) == ["other"]
    assert [run.run_key for run in both.run_requests or ()] == ["r9"]


def test_a_message_whose_request_was_deleted_with_its_video_starts_nothing(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """It would be taken for another producer's, and the video would come back: the cursor of a new Redis is behind."""
    with platform.database.session() as session:
        row = factories.request(session, "gone", request_id="r1", source_url="https://example.org/gone.mp4", config={})
    RequestStream(platform.redis).publish(StartMessage.of(row))
    with platform.database.session() as session:
        deletion.delete_rows(session, "gone")
        deletion.delete_requests(session, "gone")
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    assert (result.run_requests, _partitions(result), _dead(platform)) == ([], [], [])
    with platform.database.read() as session:
        assert request_queries.get(session, "r1") is None


def test_another_producers_message_for_a_video_that_is_being_deleted_waits(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    RequestStream(platform.redis).publish(
        StartMessage("r1", "talk", PipelineType.FULL, "https://example.org/talk.mp4", {})
    )
    with platform.database.session() as session:
        request_queries.lock_video(session, "talk")
        assert isinstance(_tick(platform, instance), dg.SkipReason)
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    assert [run.run_key for run in result.run_requests or []] == ["r1"]


@pytest.mark.parametrize("variable", ["REDIS_URL", "DATABASE_URL"])
def test_a_service_that_is_away_skips_the_tick_and_keeps_the_cursor(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    _submit(platform, "r1", "talk")
    address = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://u@127.0.0.1:1/none"}[variable]
    with monkeypatch.context() as away:
        away.setenv(variable, address)
        get_settings.cache_clear()
        skipped = _tick(platform, instance)
        assert isinstance(skipped, dg.SkipReason) and "127.0.0.1:1" in (skipped.skip_message or "")
    get_settings.cache_clear()
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult) and len(result.run_requests or ()) == 1


def _age_requests(platform: PlatformResource) -> None:
    with platform.database.session() as session:
        past = datetime.now(UTC) - timedelta(minutes=5)
        session.execute(sqlalchemy.text("UPDATE pipeline_requests SET requested_at = :past"), {"past": past})


def _reconcile(platform: PlatformResource, instance: dg.DagsterInstance, cursor: str | None = None) -> str | None:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform})
    assert isinstance(reconcile(context), dg.SkipReason)
    return context.cursor


def test_a_redis_that_lost_everything_loses_no_request(
    platform: PlatformResource, instance: dg.DagsterInstance, redis: "redis_client.Redis"
) -> None:
    _submit(platform, "r1", "talk")
    redis.flushall()
    assert isinstance(_tick(platform, instance), dg.SkipReason)
    _reconcile(platform, instance)
    assert redis.xlen(STREAM) == 0, "a request of this instant is still on its way"
    _age_requests(platform)
    _reconcile(platform, instance)
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    assert [run.run_key for run in result.run_requests or ()] == ["r1"]


def test_a_request_is_published_again_only_when_its_message_was_passed(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """Ingest stands still: its messages wait, and more of them would only make the stream grow."""
    assert isinstance(_tick(platform, instance), dg.SkipReason)
    _submit(platform, "r1", "talk")
    _age_requests(platform)
    for _ in range(3):
        _reconcile(platform, instance)
    assert platform.redis.xlen(STREAM) == 1
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult) and result.cursor
    _reconcile(platform, instance)
    assert platform.redis.xlen(STREAM) == 1, "its run may be being made"
    stream = RequestStream(platform.redis)
    _tick(platform, instance, result.cursor)  # made nothing of it: the message was another's, and its own is lost
    stream.publish(DeleteMessage("other"))
    mark = _reconcile(platform, instance)
    assert platform.redis.xlen(STREAM) == 3, "also while others wait"
    assert mark == stream.newest()
    _reconcile(platform, instance, mark)
    assert platform.redis.xlen(STREAM) == 3, "once"


def test_a_request_that_has_a_run_is_left_alone(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    _submit(platform, "r1", "talk")
    _age_requests(platform)
    before = platform.redis.xlen(STREAM)
    dg.materialize([], instance=instance, tags={REQUEST_TAG: "r1"}, raise_on_error=False)
    _reconcile(platform, instance)
    assert platform.redis.xlen(STREAM) == before


def test_a_request_that_makes_no_sense_ends_with_the_reason_and_is_not_published_again(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    with platform.database.session() as session:
        request_queries.create(
            session, request_id="r1", video_identifier="talk", source_url=None, pipeline_type="full",
            config={"of_another_version": True},
        )  # fmt: skip
        [row] = request_queries.queued_before(session, datetime.now(UTC) + timedelta(hours=1), 10)
    RequestStream(platform.redis).publish(StartMessage.of(row))
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult) and not result.run_requests
    with platform.database.read() as session:
        ended = request_queries.get(session, "r1")
        [run] = run_queries.page(session, "talk").items
        assert request_queries.queued_before(session, datetime.now(UTC) + timedelta(hours=1), 10) == []
    assert ended and ended.state == "finished" and "of_another_version" in (ended.error or "")
    assert (run.status, len(_dead(platform))) == ("failed", 1)


def test_an_old_deletion_leaves_the_partition_of_a_video_that_was_submitted_again(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """The stream is read again from its beginning when its Redis was exchanged."""
    instance.add_dynamic_partitions(VIDEOS, ["talk", "gone"])
    _submit(platform, "r1", "talk")
    for video in ("talk", "gone"):
        RequestStream(platform.redis).publish(DeleteMessage(video))
    result = _tick(platform, instance)
    assert isinstance(result, dg.SensorResult)
    deleted = [each for each in _partitions(result) if isinstance(each, dg.DeleteDynamicPartitionsRequest)]
    assert [list(each.partition_keys) for each in deleted] == [["gone"]]
    assert [run.run_key for run in result.run_requests or ()] == ["r1"]


def test_a_redis_whose_clock_is_behind_is_read_from_its_beginning(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    _submit(platform, "r1", "talk")
    far_ahead = f"{int((datetime.now(UTC) + timedelta(days=400)).timestamp() * 1000)}-0"
    result = _tick(platform, instance, far_ahead)
    assert isinstance(result, dg.SensorResult) and result.cursor == "0-0" and not result.run_requests
    again = _tick(platform, instance, result.cursor)
    assert isinstance(again, dg.SensorResult)
    assert [run.run_key for run in again.run_requests or ()] == ["r1"]
