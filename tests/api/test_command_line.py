"""The commands that ask the API, against the real one over real HTTP."""

import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI

from api import deletion, receiving
from api.services import Services
from tests import factories
from tests.api.conftest import store_video
from videomoments_dagster.cli import main, output, upload, videos
from videomoments_dagster.errors import DiskFull, ServiceUnavailable
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names

ERROR = {
    "stage": "AUDIO_EXTRACTION",
    "code": "no_audio",
    "message": "No [audio].",
    "hint": "Take another.",
    "retryable": False,
}


class Done(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(app: FastAPI, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("VIDEOMOMENTS_PUBLIC_URL", server)
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["videomoments", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.run()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return run


def in_background(services: Services, video: str, *steps: Callable[[], None]) -> threading.Thread:
    """Plays the pipeline: takes the request from the stream, then does `steps`."""

    def work() -> None:
        after = "0-0"
        while not (found := services.stream.read(after, count=1, block_seconds=5)):
            pass
        assert found[0][1]["video_id"] == video
        for step in steps:
            step()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_url_is_submitted_and_its_identifier_printed(command: Command, services: Services) -> None:
    done = command("submit", "https://example.org/talk.mp4", "--title", "A talk", "--config", "max_moments=3")
    assert (done.code, done.out) == (0, "talk\n")
    assert "videomoments status talk" in done.err
    assert services.lock.owner("talk")
    again = command("submit", "https://example.org/talk.mp4", "--json")
    assert again.code == 1
    assert "is being processed" in again.err


def test_a_file_is_streamed_to_the_api(command: Command, services: Services, tmp_path: Path) -> None:
    file = tmp_path / 'my "best" talk.mp4'
    file.write_bytes(bytes(range(256)) * 20_000)
    done = command("submit", str(file), "--json", "--config", "generation_model=builtin_moments")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    stored = services.store.require(names.upload(body["video_id"], body["request_id"]))
    assert stored.size_bytes == file.stat().st_size
    assert services.store.put_file("check", file, "video/mp4").md5 == stored.md5


def test_a_large_file_goes_on_where_it_was_cut_short(
    command: Command, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "RESUMABLE_FROM_BYTES", 1000)
    monkeypatch.setattr(upload, "_PAUSE_SECONDS", 0.01)
    file = tmp_path / "long talk.mp4"
    file.write_bytes(bytes(range(256)) * 20_000)
    append, failures = receiving.append, [DiskFull("Full."), ServiceUnavailable("Away.")]

    async def cut_short(body: AsyncIterator[bytes], *where: Any, **more: Any) -> None:
        """Two requests end before their end."""

        async def beginning() -> AsyncIterator[bytes]:
            async for chunk in body:
                yield chunk
                if failures:
                    return

        await append(beginning(), *where, **more)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(receiving, "append", cut_short)
    done = command("submit", str(file), "--json", "--title", "Long")
    assert done.code == 0, done.err
    assert not failures
    body = json.loads(done.out)
    assert body["video_id"] == "long-talk"
    with services.store.local_copy(names.upload("long-talk", body["request_id"]), tmp_path) as stored:
        assert stored.read_bytes() == file.read_bytes()


def test_a_config_that_is_no_pair_is_wrong_usage(command: Command) -> None:
    done = command("submit", "https://example.org/a.mp4", "--config", "max_moments")
    assert done.code == 2
    assert "'max_moments' is not KEY=VALUE" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit", "no-such-file.mp4"], "neither a URL nor a file"),
        (["submit", "ftp://example.org/a.mp4"], "not an http or https URL"),
        (["submit", "https://example.org/a.mp4", "--config", "max_momentz=3"], "max_momentz"),
        (["submit", "https://example.org/a.mp4", "--identifier", "a/b"], "can't name a video"),
        (["status", "nobody"], "There is no video 'nobody'"),
        (["moments", "nobody"], "There is no video 'nobody'"),
        (["delete", "nobody"], "There is no video 'nobody'"),
        (["delete", "../x"], "can't name a video"),
    ],
)
def test_what_can_not_be_done_is_said_and_exits_with_1(command: Command, arguments: list[str], said: str) -> None:
    done = command(*arguments)
    assert done.code == 1
    assert said in done.err
    assert done.out == ""
    assert "Traceback" not in done.err


def test_a_misspelled_option_exits_with_2(command: Command) -> None:
    assert command("list", "--limt", "3").code == 2


def test_an_api_that_does_not_run_is_said(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOMOMENTS_PUBLIC_URL", "http://127.0.0.1:1")
    get_settings.cache_clear()
    done = command("list")
    assert done.code == 1
    assert "http://127.0.0.1:1 does not answer" in done.err
    assert "videomoments up" in done.err


def test_something_else_on_the_port_is_said(command: Command, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOMOMENTS_PUBLIC_URL", f"{server}/docs")
    get_settings.cache_clear()
    assert command("status", "a").code == 1


def test_waiting_shows_the_stages_and_ends_with_the_moments(command: Command, services: Services) -> None:
    def store() -> None:
        services.status.run_started("talk", "run")
        for stage in Stage:
            services.status.stage_started("talk", stage)
            services.status.stage_completed("talk", stage)
        with services.database.session() as session:
            video = store_video(services, session, "talk")
            root = factories.moment(session, video, 61, 95, title="Why [small] steps work", score=8)
            factories.refined(session, root, start_time=62, end_time=94)
        services.status.finish("talk", "completed")

    pipeline = in_background(services, "talk", store)
    done = command("submit", "https://example.org/talk.mp4", "--wait")
    pipeline.join()
    assert done.code == 0, done.err
    assert "VIDEO_DOWNLOAD     completed" in done.err
    assert "pipeline           completed" in done.err
    assert "Why [small] steps work" in done.out
    assert "1:02" in done.out, "the refined start"


def test_at_a_terminal_waiting_is_a_live_table(
    command: Command, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress() -> None:
        services.status.run_started("talk", "run")
        services.status.stage_started("talk", Stage.VIDEO_DOWNLOAD)
        services.status.stage_completed("talk", Stage.VIDEO_DOWNLOAD)
        services.status.stage_failed("talk", Stage.AUDIO_EXTRACTION, ERROR)
        services.status.finish("talk", "failed", ERROR)

    monkeypatch.setenv("FORCE_COLOR", "1")
    output.messages.cache_clear()
    pipeline = in_background(services, "talk", progress)
    done = command("submit", "https://example.org/talk.mp4", "--wait")
    pipeline.join()
    output.messages.cache_clear()
    assert done.code == 1
    assert "✓" in done.err
    assert "audio extraction" in done.err
    assert "Take another." in done.err


def test_waiting_for_a_video_without_moments_succeeds_and_gives_the_reason(
    command: Command, services: Services
) -> None:
    def end() -> None:
        with services.database.session() as session:
            store_video(services, session, "talk")
        services.status.note("talk", "Nobody speaks in it.")
        services.status.finish("talk", "completed")

    pipeline = in_background(services, "talk", end)
    done = command("submit", "https://example.org/talk.mp4", "--wait")
    pipeline.join()
    assert (done.code, done.out) == (0, "talk has no moments. Nobody speaks in it.\n")


def test_waiting_for_a_run_that_fails_says_why_and_exits_with_1(command: Command, services: Services) -> None:
    def fail() -> None:
        services.status.stage_failed("talk", Stage.AUDIO_EXTRACTION, ERROR)
        services.status.finish("talk", "failed", ERROR)

    pipeline = in_background(services, "talk", fail)
    done = command("submit", "https://example.org/talk.mp4", "--wait", "--json")
    pipeline.join()
    assert done.code == 1
    assert "AUDIO_EXTRACTION: No [audio]." in done.err
    assert "Take another." in done.err
    assert json.loads(done.out)["error"] == ERROR
    shown = command("status", "talk")
    assert shown.code == 0
    assert "talk: failed" in shown.out
    assert "No [audio]. Take another." in shown.out
    assert json.loads(command("status", "talk", "--json").out)["status"] == "failed"


def test_videos_and_moments_are_listed_for_people_and_for_programs(command: Command, services: Services) -> None:
    assert "No videos yet" in command("list").out
    with services.database.session() as session:
        stored = [
            store_video(services, session, f"talk-{number}", title=f"Number [{number}]", file_size_kb=2048)
            for number in range(3)
        ]
        factories.moment(session, stored[2], 3600, 3661, title="Late")
    shown = command("list").out
    assert "Number [2]" in shown
    assert "10:00" in shown
    assert [each["id"] for each in json.loads(command("list", "--json", "--limit", "2").out)] == ["talk-2", "talk-1"]
    assert [each["id"] for each in json.loads(command("list", "--json", "-q", "[1]").out)] == ["talk-1"]
    assert "1:00:00" in command("moments", "talk-2").out
    assert json.loads(command("moments", "talk-2", "--json").out)[0]["title"] == "Late"
    assert command("moments", "talk-1").out == "talk-1 has no moments.\n"


def test_a_video_is_deleted(command: Command, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with services.database.session() as session:
        store_video(services, session, "talk")
        factories.request(session, "talk", state="launched")
    assert "delete it with force" in command("delete", "talk").err
    monkeypatch.setattr(deletion, "CANCEL_SECONDS", 0.1)
    done = command("delete", "talk", "--force")
    assert (done.code, done.out) == (0, "")
    assert "Deleted talk:\n1 objects, 0.0 MB\n  videos/talk/ 1\n1 rows of videos\n1 requests" in done.err
    assert command("delete", "talk").code == 1
    with services.database.session() as session:
        store_video(services, session, "again")
    assert json.loads(command("delete", "again", "--json").out)["rows"]["videos"] == 1


def test_the_place_in_the_queue_is_shown(command: Command) -> None:
    for name in ("first", "second"):
        command("submit", f"https://example.org/{name}.mp4")
    assert "second: queued (number 2 in the queue)" in command("status", "second").out


def test_history_and_failures_are_listed_for_people_and_for_programs(command: Command, services: Services) -> None:
    assert "No runs yet" in command("history").err
    assert (command("failures").out, command("failures", "--json").out) == ("", "[]\n")
    with services.database.session() as session:
        lecture = store_video(services, session, "lecture")
        factories.run(session, lecture, total_moments_generated=7, duration_seconds=61, started_at=factories.BEGINNING)
        at = factories.minutes_later(1)
        factories.request(session, "talk", state="finished", requested_at=at, error=json.dumps(ERROR))
        factories.run(
            session,
            None,
            identifier="pipeline:talk:1767225660000",
            status="failed",
            started_at=at,
            error_stage="AUDIO_EXTRACTION",
            error_message="No [audio]. Take another.",
        )
    shown = command("history").out
    assert "2026-01-01 00:00:00  lecture  full      completed  1:01  7" in shown
    assert "AUDIO_EXTRACTION: No [audio]. Take another." in shown
    assert "lecture" not in command("history", "talk").out
    assert [each["video_id"] for each in json.loads(command("history", "--json", "--limit", "1").out)] == ["talk"]
    assert command("history", "nobody").code == 1
    assert command("failures").out == "talk: AUDIO_EXTRACTION no_audio: No [audio]. Take another.\n"
    assert json.loads(command("failures", "--json").out)[0]["hint"] == "Take another."


def test_moments_and_captions_are_exported(command: Command, services: Services, tmp_path: Path) -> None:
    with services.database.session() as session:
        video = factories.video(session, identifier="talk")
        factories.transcript(session, video)
        factories.moment(session, video, title="Only one")
    assert json.loads(command("export", "talk", "--format", "json").out)["moments"][0]["title"] == "Only one"
    assert command("export", "talk", "--format", "csv", "--refined").out.splitlines()[1:] == []
    file = tmp_path / "talk.vtt"
    assert str(file) in command("export", "talk", "--format", "vtt", "-o", str(file)).err
    assert file.read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    refused = command("export", "talk", "--format", "chapters")
    assert refused.code == 1
    assert "another format" in refused.err
    assert command("export", "talk", "--format", "csv", "-o", str(tmp_path)).code == 1
    assert command("export", "talk", "--format", "srt", "--refined").code == 2


def test_search_shows_where_it_is_said(command: Command, services: Services) -> None:
    with services.database.session() as session:
        video = factories.video(session, identifier="talk")
        moment = factories.moment(session, video, 61, title="Rivers & [lakes]").identifier
    [hit] = json.loads(command("search", "river", "--json").out)
    assert (hit["moment_id"], hit["snippet"]) == (moment, "<mark>Rivers</mark> &amp; [lakes]")
    shown = command("search", "river").out
    assert "1:01" in shown
    assert "Rivers & [lakes]" in shown
    assert "Nothing" in command("search", "mountain").out
