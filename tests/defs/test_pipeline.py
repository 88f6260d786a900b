"""The sample talk through the whole graph, once, and what is there afterwards: rows, files, checks, metadata."""

import json
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import dagster as dg
import pytest

from db.queries import clips as clip_queries
from db.queries import moments as moment_queries
from db.queries import thumbnails as thumbnail_queries
from db.queries import transcripts as transcript_queries
from db.queries import videos as video_queries
from tests.defs.pipeline import execute, submit
from tests.sample import TRUTH, word_error_rate
from tests.web import Web, serving
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.lock import PipelineLock
from videomoments_dagster.requests.stages import PipelineType, Stage
from videomoments_dagster.requests.status import LiveStatus, PipelineStatus
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.storage import names

SAMPLE = Path(__file__).parents[2] / "sample"
pytestmark = pytest.mark.slow


@dataclass
class Talk:
    platform: PlatformResource
    instance: dg.DagsterInstance
    web: Web
    result: dg.ExecuteInProcessResult
    request_id: str
    status: PipelineStatus | None  # as the run left it
    lock_owner: str | None

    def metadata(self, asset: str) -> dict[str, object]:
        [materialization] = self.result.asset_materializations_for_node(asset)
        return {key: value.value for key, value in materialization.metadata.items()}


@pytest.fixture(scope="module")
def talk(clone_database: Callable[[], str], redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with pytest.MonkeyPatch.context() as environment, serving() as web, dg.DagsterInstance.ephemeral() as instance:
        for field in Settings.model_fields.values():
            environment.delenv(str(field.alias), raising=False)
        environment.setenv("VIDEOMOMENTS_HOME", str(tmp_path_factory.mktemp("talk")))
        environment.setenv("DATABASE_URL", clone_database())
        environment.setenv("REDIS_URL", redis_url)
        environment.setenv("VIDEOMOMENTS_ALLOW_PRIVATE_URLS", "1")
        get_settings.cache_clear()
        platform = PlatformResource()
        platform.redis.flushall()
        url = web.serve_file("/talk.mp4", SAMPLE / "talk.mp4")
        request_id = submit(platform, "talk", url, {"title": "Four small habits"})
        result = execute(platform, instance, "talk", request_id=request_id)
        status, owner = LiveStatus(platform.redis).read("talk"), PipelineLock(platform.redis).owner("talk")
        yield Talk(platform, instance, web, result, request_id, status, owner)
        platform.database.dispose()
    get_settings.cache_clear()


def test_every_asset_and_every_check_succeeds(talk: Talk) -> None:
    assert talk.result.success
    made = {
        event.asset_key.to_user_string() for event in talk.result.get_asset_materialization_events() if event.asset_key
    }
    assert made == {"video", "audio", "transcript", "moments", "clips", "refined_moments", "scores", "thumbnails"}
    checks = {check.check_name: check.passed for check in talk.result.get_asset_check_evaluations()}
    assert checks == dict.fromkeys(
        [
            "video_playable", "audio_matches_video", "words_in_order", "moments_inside_video", "moments_within_lengths",
            "clips_match_rows", "refined_inside_clip", "moments_scored", "thumbnails_decode", "rows_and_objects_agree",
        ],
        True,
    )  # fmt: skip


def test_the_moments_are_the_talks_topics(talk: Talk) -> None:
    """Each true topic is met by a moment with a temporal overlap of at least a half."""
    topics = json.loads((SAMPLE / "talk.json").read_text())["topics"]
    with talk.platform.database.read() as session:
        video = video_queries.require(session, "talk")
        found = moment_queries.of_video(session, video.id, refined=False)
    assert video.title == "Four small habits"
    assert len({moment.title for moment in found}) == len(found)
    for topic in topics:
        overlaps = [
            (min(m.end_time, topic["end_time"]) - max(m.start_time, topic["start_time"]))
            / (max(m.end_time, topic["end_time"]) - min(m.start_time, topic["start_time"]))
            for m in found
        ]
        assert max(overlaps) >= 0.5, topic["title"]


def test_the_transcript_is_nearly_what_was_said(talk: Talk) -> None:
    """The builtin recognizer's accuracy on the whole talk: of its words, and of when each sentence begins."""
    with talk.platform.database.read() as session:
        row = transcript_queries.get(session, video_queries.require(session, "talk").id)
    assert row
    assert word_error_rate(TRUTH["words"], [word["word"] for word in row.word_timestamps]) < 0.12
    starts = [word["start"] for word in row.word_timestamps]
    errors = [min(abs(start - sentence["start_time"]) for start in starts) for sentence in TRUTH["sentences"]]
    assert median(errors) < 0.05
    assert max(errors) < 0.15
    assert row.number_of_words == len(row.word_timestamps)


def test_every_root_moment_has_a_clip_that_starts_on_a_keyframe_before_it(talk: Talk) -> None:
    with talk.platform.database.read() as session:
        video = video_queries.require(session, "talk")
        clips = clip_queries.of_video(session, video.id)
        roots = moment_queries.of_video(session, video.id, refined=False)
    assert {clip.moment_identifier for clip in clips} == {root.identifier for root in roots}
    for clip in clips:
        root = next(root for root in roots if root.identifier == clip.moment_identifier)
        assert clip.padding_left == pytest.approx(root.start_time - clip.start_time)
        assert clip.start_time <= max(0.0, root.start_time - 5.0) + 0.05
        with av.open(clip.cloud_url.removeprefix("file://")) as container:
            packets = [packet for packet in container.demux(container.streams.video[0]) if packet.pts is not None]
            assert packets[0].is_keyframe
            assert container.streams.video[0].start_time == 0
            assert (container.duration or 0) / 1e6 == pytest.approx(clip.end_time - clip.start_time, abs=0.041)


def test_refined_moments_lie_in_their_parents_clips_and_say_who_their_parent_is(talk: Talk) -> None:
    with talk.platform.database.read() as session:
        everything = moment_queries.of_video(session, video_queries.require(session, "talk").id)
    refined = [moment for moment in everything if moment.is_refined]
    assert refined
    roots = {moment.identifier for moment in everything if not moment.is_refined}
    for moment in refined:
        assert moment.parent_identifier in roots
        assert moment.clip and moment.clip.start_time <= moment.start_time < moment.end_time <= moment.clip.end_time
    assert all(moment.score is not None and moment.scoring_model == "builtin_moments" for moment in everything)


def test_there_is_a_thumbnail_of_the_video_and_one_of_each_clip(talk: Talk) -> None:
    with talk.platform.database.read() as session:
        video = video_queries.require(session, "talk")
        pictures = thumbnail_queries.of_video(session, video.id)
        clips = clip_queries.of_video(session, video.id)
    assert [picture.moment_identifier for picture in pictures] == [None, *(clip.moment_identifier for clip in clips)]


def test_the_audio_is_a_16_khz_mono_wav(talk: Talk) -> None:
    path = talk.platform.settings.objects_directory / names.audio("talk")
    files = [path] if path.is_file() else []
    with talk.platform.store.local_copy(names.audio("talk"), path.parent) as stored, wave.open(str(stored)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16_000, 1, 2)
    assert all(file.is_file() for file in files), "reading in place must not remove it"


def test_materializations_carry_numbers_a_table_and_a_picture(talk: Talk) -> None:
    assert isinstance(talk.metadata("video")["duration_seconds"], float)
    assert isinstance(talk.metadata("video")["size_bytes"], int)
    assert talk.metadata("transcript")["model"] == "builtin_speech"
    moments = talk.metadata("moments")
    assert moments["model"] == "builtin_moments"
    assert str(moments["moments"]).startswith("| start | end | score | title | why |\n| --- |")
    assert "/api/videos/talk/thumbnail" in str(moments["thumbnail"])
    assert isinstance(talk.metadata("clips")["number_of_clips"], int)
    for asset in ("video", "audio", "transcript", "moments", "clips", "refined_moments", "scores", "thumbnails"):
        text = json.dumps(talk.metadata(asset), default=str)
        assert "signature=" not in text and "base64" not in text
        assert len(text) < 20_000


def test_live_status_shows_every_stage_completed_and_the_lock_is_the_requests(talk: Talk) -> None:
    """The run-status sensor ends the run; here it has not ticked, so the run is shown as running and still locked."""
    status = talk.status
    assert status and (status.run_id, status.request_id) == (talk.result.run_id, talk.request_id)
    assert {stage.stage: stage.status for stage in status.stages} == dict.fromkeys(Stage, "completed")
    assert all(stage.started_at and stage.completed_at and stage.progress == 1 for stage in status.stages)
    assert talk.lock_owner == talk.request_id


def test_nothing_temporary_is_left(talk: Talk) -> None:
    temp = talk.platform.settings.temp_directory
    assert not temp.exists() or [path for path in temp.rglob("*") if path.is_file()] == []


def test_running_everything_again_changes_nothing_and_fetches_nothing(talk: Talk) -> None:
    def state() -> tuple[object, ...]:
        with talk.platform.database.read() as session:
            video = video_queries.require(session, "talk")
            moments = [
                (m.identifier, m.title, m.score, m.start_time) for m in moment_queries.of_video(session, video.id)
            ]
            clips = [(c.id, c.cloud_url, c.start_time, c.end_time) for c in clip_queries.of_video(session, video.id)]
        objects = sorted((o.name, o.md5) for prefix in names.prefixes("talk") for o in talk.platform.store.list(prefix))
        return moments, clips, objects

    before, hits = state(), dict(talk.web.hits)
    again = execute(talk.platform, talk.instance, "talk", kind=PipelineType.MOMENTS_ONLY)
    assert again.success
    assert state() == before
    assert talk.web.hits == hits
    [clips] = again.asset_materializations_for_node("clips")
    assert clips.metadata["cut_now"].value == 0
