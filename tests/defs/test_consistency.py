"""The consistency sweep over rows, objects and partitions: each fault is made by hand, found, left as it is by a dry
run, mended by --fix, and not found again."""

import logging
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from db.models import PipelineRequest
from db.queries import consistency as queries
from db.queries import requests as request_queries
from db.queries import search
from db.queries import videos as video_queries
from tests import factories as make
from videomoments_dagster.defs.consistency import library, objects, partitions, transcripts
from videomoments_dagster.defs.consistency.report import Finding, Kind
from videomoments_dagster.defs.consistency.sweep import sweep
from videomoments_dagster.defs.maintenance.consistency import CHECK, consistency
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import PARTITION_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import Conflict, ServiceUnavailable, StorageUnavailable
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names


@pytest.fixture(autouse=True)
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every object were old; and pages are small, so that there are several."""
    monkeypatch.setattr(objects, "YOUNG_SECONDS", 0)
    for module in (library, partitions, transcripts):
        monkeypatch.setattr(module, "BATCH", 2)


@pytest.fixture
def moments(platform: PlatformResource, instance: dg.DagsterInstance) -> dict[str, list[str]]:
    """Three whole videos, moments by video; their names are in another order than the names of their objects."""
    return {video: store_video(platform, instance, video) for video in ("talk", "talk-b", "talk_c")}


def store_video(platform: PlatformResource, instance: dg.DagsterInstance, video: str, **values: object) -> list[str]:
    """A video with two clips, all pictures, and what has no row: sound, keyframes, raw answers."""
    store = platform.store

    def put(name: str) -> str:
        store.put_bytes(name, name.encode(), "application/octet-stream")
        return store.cloud_url(name)

    with platform.database.session() as session:
        row = make.video(session, identifier=video, cloud_url=put(names.video(video, "mp4")), **values)
        make.thumbnail(session, row, cloud_url=put(names.video_thumbnail(video)))
        roots = [make.moment(session, row, start) for start in (0, 20)]
        for root in roots:
            clip = make.clip(session, root, cloud_url=put(names.clip(video, root.identifier)))
            make.thumbnail(session, clip, cloud_url=put(names.clip_thumbnail(video, root.identifier)))
    for name in (names.audio(video), names.keyframes(video), names.answers(video, "moments")):
        put(name)
    instance.add_dynamic_partitions(VIDEOS, [video])
    return [root.identifier for root in roots]


def snapshot(platform: PlatformResource, instance: dg.DagsterInstance) -> object:
    """What a dry run must not change."""
    with platform.database.read() as session:
        known = queries.promises_after(session, None, 100)
        asked = request_queries.queued_before(session, datetime.now(UTC) + timedelta(days=1), 100)
    keys = sorted(platform.redis.scan_iter())
    return (
        known,
        [request.request_id for request in asked],
        [stored.name for stored in platform.store.list("")],
        list(instance.get_dynamic_partitions(VIDEOS)),
        keys,
    )


def found_and_mended(platform: PlatformResource, instance: dg.DagsterInstance) -> tuple[Finding, ...]:
    """What a dry run finds, which changes nothing; --fix finds the same and mends it, and then there is nothing."""
    before = snapshot(platform, instance)
    dry = sweep(instance, platform, fix=False)
    assert snapshot(platform, instance) == before
    assert dry.total == dry.left == len(dry.findings)
    mended = sweep(instance, platform, fix=True, delete=True)
    assert (mended.found, mended.left) == (dry.found, 0)
    assert all(finding.fixed for finding in mended.findings)
    assert sweep(instance, platform, fix=True, delete=True).total == 0
    return dry.findings


def newest_request(platform: PlatformResource, video: str) -> PipelineRequest:
    with platform.database.read() as session:
        request = request_queries.newest(session, video)
    assert request
    return request


def test_a_whole_library_is_consistent(
    platform: PlatformResource, instance: dg.DagsterInstance, moments: dict[str, list[str]]
) -> None:
    platform.store.put_bytes(names.shared("calibration.mp4"), b"everybody's", "video/mp4")
    platform.store.put_bytes("videos/somebody-elses", b"of no video", "video/mp4")
    before = snapshot(platform, instance)
    report = sweep(instance, platform, fix=True, delete=True)
    assert (report.total, report.videos, report.objects, report.in_work) == (0, 3, 27, 0)
    assert snapshot(platform, instance) == before


def test_lost_clips_and_pictures_are_asked_for_again_as_they_were_asked_for(
    platform: PlatformResource, instance: dg.DagsterInstance, moments: dict[str, list[str]]
) -> None:
    with platform.database.session() as session:
        config = {"padding_left": 2.0, "resume": True}
        make.request(session, "talk-b", state="finished", config=config)
        make.request(session, "talk-b", state="finished", config={"moment": "0" * 16})
    lost = [names.clip("talk-b", moments["talk-b"][0]), names.clip_thumbnail("talk-b", moments["talk-b"][1])]
    for name in lost:
        platform.store.delete(name)
    found = found_and_mended(platform, instance)
    assert [(each.kind, each.video, each.name) for each in found] == [
        (Kind.ROW_WITHOUT_OBJECT, "talk-b", name) for name in lost
    ]
    request = newest_request(platform, "talk-b")
    assert (request.state, request.pipeline_type, request.config) == (
        "queued",
        PipelineType.CLIPS_ONLY,
        {"padding_left": 2.0},
    )


def test_transcripts_that_search_does_not_find_are_found_and_get_their_passages(
    platform: PlatformResource, instance: dg.DagsterInstance, moments: dict[str, list[str]]
) -> None:
    """Stored after the migration by a worker with the code of before; one is of silence."""
    silence = {"full_text": " ", "word_timestamps": [], "segment_timestamps": []}
    with platform.database.session() as session:
        for video, values in (("talk", {}), ("talk-b", silence), ("talk_c", {})):
            make.transcript(session, video_queries.require(session, video), **values)
        assert search.page("hello", limit=10).run(session).items == []
    found = found_and_mended(platform, instance)
    assert [(each.kind, each.video) for each in found] == [
        (Kind.TRANSCRIPT_WITHOUT_PASSAGES, "talk"),
        (Kind.TRANSCRIPT_WITHOUT_PASSAGES, "talk_c"),
    ]
    with platform.database.session() as session:
        hits = search.page("hello", limit=10).run(session).items
    assert sorted(hit.video_identifier for hit in hits) == ["talk", "talk_c"]


def test_a_lost_video_is_fetched_again_and_what_nothing_can_bring_back_is_told_about(
    platform: PlatformResource, instance: dg.DagsterInstance, moments: dict[str, list[str]]
) -> None:
    store_video(platform, instance, "uploaded", source_url=None)
    for video in ("talk", "uploaded"):
        platform.store.delete(names.video(video, "mp4"))
    with platform.database.session() as session:
        elsewhere = make.video(session, identifier="moved").cloud_url
    instance.add_dynamic_partitions(VIDEOS, ["moved"])
    assert sweep(instance, platform, fix=False).total == 3
    report = sweep(instance, platform, fix=True, delete=True)
    assert [(each.name, each.fixed) for each in report.findings] == [
        (elsewhere, False),
        (names.video("talk", "mp4"), True),
        (names.video("uploaded", "mp4"), False),
    ]
    assert "GCS_BUCKET_NAME" in report.findings[0].fix
    assert "submit the file again" in report.findings[2].fix
    request = newest_request(platform, "talk")
    assert (request.pipeline_type, request.source_url) == (PipelineType.FULL, "https://example.org/talk.mp4")
    again = sweep(instance, platform, fix=True, delete=True)
    assert ([each.video for each in again.findings], again.left) == (["moved", "uploaded"], 2)


def test_objects_that_no_row_names_are_deleted_and_those_that_a_request_names_stay(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    moments: dict[str, list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with platform.database.session() as session:
        waiting = make.request(session, "later", state="finished").request_id
    kept = names.upload("later", waiting)
    orphans = [
        names.answers("gone", "scores"),
        names.audio("gone"),
        names.clip("talk", "f" * 16),
        names.clip_thumbnail("talk", "f" * 16),
        names.keyframes("gone"),
        names.upload("talk", "unknown"),
        names.video("gone", "mp4"),
        names.video("talk", "webm"),
    ]
    for name in (kept, *orphans):
        platform.store.put_bytes(name, b"left", "application/octet-stream")
    with caplog.at_level(logging.INFO, logger="videomoments.sweep"):
        found = found_and_mended(platform, instance)
    assert sorted(line.split()[3].rstrip(",") for line in caplog.messages) == sorted(orphans)
    assert {each.kind for each in found} == {Kind.OBJECT_WITHOUT_ROW}
    assert sorted(each.name for each in found) == sorted(orphans)
    assert platform.store.stat(kept)


@dg.job
def _nothing() -> None: ...


def test_a_video_in_work_and_a_young_object_are_left_alone(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    moments: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for video in moments:
        platform.store.delete(names.video(video, "mp4"))
        platform.store.put_bytes(names.clip(video, "f" * 16), b"its row comes", "video/mp4")
    with platform.database.session() as session:
        make.request(session, "talk", state="launched")
    PipelineLock(platform.redis).acquire("talk-b", "somebody")
    instance.create_run_for_job(_nothing, tags={PARTITION_TAG: "talk_c"})
    before = snapshot(platform, instance)
    report = sweep(instance, platform, fix=True, delete=True)
    assert (report.total, report.in_work) == (0, 3)

    PipelineLock(platform.redis).release("talk-b", "somebody")
    platform.store.put_bytes(names.video("talk-b", "mp4"), b"video", "video/mp4")
    monkeypatch.setattr(objects, "YOUNG_SECONDS", 3600)
    report = sweep(instance, platform, fix=True, delete=True)
    assert (report.total, report.in_work) == (0, 2)
    platform.store.delete(names.video("talk-b", "mp4"))
    PipelineLock(platform.redis).acquire("talk-b", "somebody")
    assert snapshot(platform, instance) == before


def test_work_that_begins_during_the_sweep_saves_what_was_found(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    moments: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The request comes after the look at the video and before the fix, while its lock is taken."""
    platform.store.put_bytes(names.clip("talk", "f" * 16), b"its row comes", "video/mp4")
    lock_video = request_queries.lock_video

    def lock_after_a_request(session: object, video: str) -> None:
        instance.create_run_for_job(_nothing, tags={PARTITION_TAG: "talk"})
        lock_video(session, video)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(request_queries, "lock_video", lock_after_a_request)
    assert sweep(instance, platform, fix=True, delete=True).total == 0
    assert platform.store.stat(names.clip("talk", "f" * 16))


def test_partitions_without_requests_go_and_stored_videos_become_partitions(
    platform: PlatformResource, instance: dg.DagsterInstance, moments: dict[str, list[str]]
) -> None:
    with platform.database.session() as session:
        make.request(session, "failed", state="finished")
    instance.add_dynamic_partitions(VIDEOS, ["nobodys", "failed", "by-hand", "another"])
    instance.create_run_for_job(_nothing, tags={PARTITION_TAG: "by-hand"})
    instance.delete_dynamic_partition(VIDEOS, "talk-b")
    found = found_and_mended(platform, instance)
    assert [(each.kind, each.video) for each in found] == [
        (Kind.PARTITION_WITHOUT_REQUEST, "nobodys"),
        (Kind.PARTITION_WITHOUT_REQUEST, "another"),
        (Kind.VIDEO_WITHOUT_PARTITION, "talk-b"),
    ]
    assert set(instance.get_dynamic_partitions(VIDEOS)) == {"talk", "talk-b", "talk_c", "failed", "by-hand"}


def test_a_database_that_knows_nothing_does_not_empty_the_store(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    platform.store.put_bytes(names.video("talk", "mp4"), b"video", "video/mp4")
    assert sweep(instance, platform, fix=False).total == 1
    with pytest.raises(Conflict, match="the database knows no video"):
        sweep(instance, platform, fix=True, delete=True)
    assert platform.store.stat(names.video("talk", "mp4"))


def test_an_old_database_does_not_cost_what_came_after_it(
    platform: PlatformResource, instance: dg.DagsterInstance, moments: dict[str, list[str]]
) -> None:
    later = [f"later-{number}" for number in range(11)]
    for video in later:
        platform.store.put_bytes(names.video(video, "mp4"), b"video", "video/mp4")
    before = snapshot(platform, instance)
    with pytest.raises(Conflict, match="knows nothing of 11 of 14 videos") as refused:
        sweep(instance, platform, fix=True, delete=True)
    assert "DATABASE_URL" in refused.value.hint
    platform.store.delete(names.video(later[0], "mp4"))
    instance.add_dynamic_partitions(VIDEOS, later)
    with pytest.raises(Conflict, match="knows nothing of 11 of 14 partitions"):
        sweep(instance, platform, fix=True, delete=True)
    report = sweep(instance, platform, fix=True)
    assert (report.found[Kind.OBJECT_WITHOUT_ROW], report.found[Kind.PARTITION_WITHOUT_REQUEST]) == (10, 11)
    assert not any(finding.fixed for finding in report.findings)
    assert all("--delete" in finding.fix for finding in report.findings)
    platform.store.put_bytes(names.video(later[0], "mp4"), b"video", "video/mp4")
    for video in later:
        instance.delete_dynamic_partition(VIDEOS, video)
    assert snapshot(platform, instance) == before


def test_a_store_or_redis_that_is_away_ends_the_sweep(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    moments: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = platform.settings.objects_directory
    (root / "thumbnails").rename(root / "away")
    (root / "thumbnails").symlink_to(root / "thumbnails")  # a file system that answers with an error
    with pytest.raises(StorageUnavailable):
        sweep(instance, platform, fix=True)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    with pytest.raises(ServiceUnavailable, match="Redis"):
        sweep(instance, platform, fix=True)


def test_the_asset_counts_and_warns(
    platform: PlatformResource, instance: dg.DagsterInstance, moments: dict[str, list[str]]
) -> None:
    def materialize() -> tuple[dict[str, object], dg.AssetCheckEvaluation]:
        result = dg.materialize([consistency], instance=instance, resources={"platform": platform})
        [made], [checked] = result.asset_materializations_for_node("consistency"), result.get_asset_check_evaluations()
        return {key: value.value for key, value in made.metadata.items()}, checked

    counts, checked = materialize()
    assert (counts["total"], counts["videos"], counts[Kind.LEAKED_SLOT], checked.passed) == (0, 3, 0, True)
    platform.store.put_bytes(names.clip("talk", "f" * 16), b"left", "video/mp4")
    counts, checked = materialize()
    assert (counts["total"], counts[Kind.OBJECT_WITHOUT_ROW], checked.check_name) == (1, 1, CHECK)
    assert (checked.passed, checked.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "f" * 16 in str(checked.metadata["findings"].value)
    assert platform.store.stat(names.clip("talk", "f" * 16)), "the scheduled sweep is a dry one"
