"""What bad input gets: a typed error where people look, and no half-written row, object or file."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from db.queries import moments as moment_queries
from db.queries import videos as video_queries
from tests.defs.pipeline import execute, failure_of, submit
from tests.media.make import Drawing, draw
from tests.web import Web, serving
from videomoments_dagster.definitions import build_definitions
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.assets import video as video_module
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import NO_RUN_RETRY_TAG, PARTITION_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.media.fetch import fetch
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries of transient faults wait seconds in production; here their number counts, not their pauses."""
    monkeypatch.setattr("dagster._core.definitions.policy.RetryPolicy.calculate_delay", lambda self, attempt: 0)
    monkeypatch.setattr(video_module, "fetch", partial(fetch, retry_pause_seconds=0.01))


def _nothing_left(platform: PlatformResource, video: str) -> None:
    with platform.database.read() as session:
        assert video_queries.get(session, video) is None
    assert [o.name for prefix in names.prefixes(video) for o in platform.store.list(prefix)] == []
    temp = platform.settings.temp_directory
    assert not temp.exists() or [path for path in temp.rglob("*") if path.is_file()] == []


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        ("missing", "source_not_found", False),
        ("web page", "not_a_video", False),
        ("text", "not_a_video", False),
        ("truncated", "media_damaged", False),
        ("broken server", "source_unavailable", True),
        ("not http", "address_refused", False),
        ("private address", "address_refused", False),
    ],
)
def test_a_video_that_cant_be_had_fails_by_name_and_leaves_nothing(
    fault: str,
    code: str,
    retryable: bool,
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    web: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = draw(tmp_path / "good.mp4", Drawing(seconds=4))
    urls = {
        "missing": web.url + "/nowhere.mp4",
        "web page": web.serve_file("/page.mp4", _write(tmp_path / "page", b"<html>watch here</html>"), "text/html"),
        "text": web.serve_file("/text.mp4", _write(tmp_path / "text", b"no video at all " * 100)),
        "truncated": web.serve_file(
            "/cut.mp4", _write(tmp_path / "cut", good.read_bytes()[: good.stat().st_size // 2])
        ),
        "broken server": web.serve_status("/broken.mp4", 503),
        "not http": "file:///etc/passwd",
        "private address": web.serve_file("/private.mp4", good),
    }
    if fault == "private address":
        monkeypatch.delenv("VIDEOMOMENTS_ALLOW_PRIVATE_URLS")
        get_settings.cache_clear()
    request_id = submit(platform, "bad", urls[fault])
    result = execute(platform, instance, "bad", request_id=request_id)
    assert not result.success
    error = failure_of(result)
    assert (error["stage"], error["code"], error["retryable"]) == ("VIDEO_DOWNLOAD", code, retryable)
    assert error["message"] and error["hint"]
    status = LiveStatus(platform.redis).read("bad")
    assert status and status.stages[0].status == "failed" and status.stages[0].error == error
    run = instance.get_run_by_id(result.run_id)
    assert run and run.tags.get(NO_RUN_RETRY_TAG) == (None if retryable else "false")
    _nothing_left(platform, "bad")


def test_a_server_that_recovers_is_tried_again(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, tmp_path: Path
) -> None:
    good = draw(tmp_path / "good.mp4", Drawing(seconds=4))
    url = web.serve_file("/good.mp4", good)
    serve, calls = web.answers["/good.mp4"], iter([True, True, True, True])

    def unsure(request) -> None:
        if next(calls, False):
            request.send_error(503)
        else:
            serve(request)

    web.answers["/good.mp4"] = unsure
    result = execute(platform, instance, "good", request_id=submit(platform, "good", url))
    assert "video" in {event.step_key for event in result.all_events if event.is_step_success}


def test_a_video_without_an_audio_track_fails_by_name_and_keeps_the_video(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, tmp_path: Path
) -> None:
    """It comes from a page, whose title is the video's from then on: nobody gave it another."""
    web.serve_file("/silent.mp4", draw(tmp_path / "silent.mp4", Drawing(seconds=4, audio=None)))
    page = b"<html><title>A silent film</title><video src='/silent.mp4'></video></html>"
    url = web.serve_file("/watch", _write(tmp_path / "watch", page), "text/html")
    result = execute(platform, instance, "silent", request_id=submit(platform, "silent", url))
    error = failure_of(result)
    assert (error["stage"], error["code"], error["retryable"]) == ("AUDIO_EXTRACTION", "no_audio", False)
    with platform.database.read() as session:
        row = video_queries.require(session, "silent")
    assert (row.audio_codec, row.title, row.source_url) == (None, "A silent film", url)
    assert [o.name for prefix in names.prefixes("silent") for o in platform.store.list(prefix)] == [
        names.video("silent", "mp4")
    ]


def test_a_video_without_speech_completes_with_no_moments_and_the_reason(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, tmp_path: Path
) -> None:
    url = web.serve_file("/tone.mp4", draw(tmp_path / "tone.mp4", Drawing(seconds=6)))
    result = execute(platform, instance, "tone", request_id=submit(platform, "tone", url))
    assert result.success
    with platform.database.read() as session:
        assert moment_queries.of_video(session, video_queries.require(session, "tone").id) == []
    status = LiveStatus(platform.redis).read("tone")
    assert status and status.reason
    assert {stage.status for stage in status.stages} == {"completed"}
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_a_partition_nobody_asked_for_says_how_to_submit_it(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    error = failure_of(execute(platform, instance, "unknown"))
    assert error["code"] == "not_found"
    assert "videomoments submit" in str(error["hint"])


def test_a_check_of_what_is_not_there_fails_by_name_and_is_not_tried_again(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(VIDEOS, ["unknown"])
    job = build_definitions(platform=platform).resolve_job_def(jobs.checks.name)
    result = job.execute_in_process(instance=instance, tags={PARTITION_TAG: "unknown"}, raise_on_error=False)
    error = failure_of(result)
    assert (error["code"], error["retryable"]) == ("stage_input_missing", False)
    assert {event.event_type_value for event in result.all_events} >= {"STEP_FAILURE"}
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]


def test_a_stored_object_that_went_away_is_named(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, tmp_path: Path
) -> None:
    """A materialization is a claim about the object store, not the object store."""
    url = web.serve_file("/tone.mp4", draw(tmp_path / "tone.mp4", Drawing(seconds=4)))
    assert execute(platform, instance, "tone", request_id=submit(platform, "tone", url)).success
    platform.store.delete(names.audio("tone"))
    with platform.database.session() as session:
        video = video_queries.require(session, "tone")
    job = dg.define_asset_job("only_transcript", selection=dg.AssetSelection.assets("transcript"))
    definitions = dg.Definitions.merge(build_definitions(platform=platform), dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("only_transcript").execute_in_process(
        instance=instance, partition_key=video.identifier, raise_on_error=False
    )
    assert failure_of(result)["code"] == "object_missing"
