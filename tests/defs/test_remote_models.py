"""The graph with remote models: a real sshd, stub servers behind it, and what rows, objects and metadata say of it."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from db.models import GenerationConfig, Prompt
from db.queries import clips as clip_queries
from db.queries import moments as moment_queries
from db.queries import transcripts as transcript_queries
from db.queries import videos as video_queries
from db.queries.moments import MomentView
from tests.defs.pipeline import execute, execute_checks, failure_of, submit
from tests.defs.remote_models import Remote, calibration_heard, nearest_sentence, remote_models, store_transcribed
from tests.models.sshd import Sshd, sshd_or_skip
from tests.models.stubs import refuses
from tests.sample import TRUTH, VIDEO
from tests.web import serving
from videomoments_dagster.cli.replay import replay
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.inputs import request_config
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.models.retries import Retries
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names

pytestmark = pytest.mark.slow
ALL = {"speech_model": "parakeet", "generation_model": "qwen3_vl_fp8", "scoring_model": "qwen3_vl_fp8"}


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with sshd_or_skip() as server:
        yield server


@pytest.fixture
def clock_check() -> str:
    """For most tests the check would be half of their time."""
    return "off"


@pytest.fixture
def remote(
    platform: PlatformResource, sshd: Sshd, clock_check: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Remote]:
    monkeypatch.setenv("VIDEOMOMENTS_SSH_KNOWN_HOSTS", str(sshd.known_hosts))
    monkeypatch.setenv("VIDEOMOMENTS_CLOCK_CHECK", clock_check)
    get_settings.cache_clear()
    monkeypatch.setattr(
        Retries, "pause_seconds", lambda *_: 0.01
    )  # its seconds are told by tests/models/test_server.py
    with remote_models(platform, sshd) as models:
        yield models


@pytest.fixture
def source() -> Iterator[str]:
    with serving() as web:
        yield web.serve_file("/talk.mp4", VIDEO)


class Talk:
    """One video of one platform, and what is known of it."""

    def __init__(self, platform: PlatformResource, instance: dg.DagsterInstance, url: str) -> None:
        self.platform, self.instance, self.url = platform, instance, url

    def run(self, kind: PipelineType = PipelineType.MOMENTS_ONLY, **config: Any) -> dg.ExecuteInProcessResult:
        request = submit(self.platform, "talk", self.url, {**ALL, **config}, kind)
        return execute(self.platform, self.instance, "talk", request_id=request, kind=kind)

    def refine(self, moment: str, **config: Any) -> dg.ExecuteInProcessResult:
        """One moment alone, as the ingest sensor launches it."""
        wanted = {**ALL, **config, "moment": moment}
        request = submit(self.platform, "talk", None, wanted, PipelineType.REFINEMENT_ONLY)
        return execute(
            self.platform,
            self.instance,
            "talk",
            request_id=request,
            kind=PipelineType.REFINEMENT_ONLY,
            run_config=jobs.alone(PipelineType.REFINEMENT_ONLY, PipelineConfig.parse(wanted)),
        )

    def moments(self, *, refined: bool | None = None) -> list[MomentView]:
        with self.platform.database.read() as session:
            video = video_queries.require(session, "talk")
            return moment_queries.of_video(session, video.id, refined=refined)

    def metadata(self, result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
        [materialization] = result.asset_materializations_for_node(asset)
        return {key: value.value for key, value in materialization.metadata.items()}

    def answers(self, asset: str) -> dict[str, Any]:
        store = self.platform.store
        with store.local_copy(names.answers("talk", asset), Path("/nowhere")) as path:
            return json.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture
def fresh_talk(platform: PlatformResource, instance: dg.DagsterInstance, source: str) -> Talk:
    """Of which nothing is there yet."""
    return Talk(platform, instance, source)


@pytest.fixture
def talk(fresh_talk: Talk, remote: Remote, tmp_path: Path) -> Talk:
    """Stored and transcribed already."""
    store_transcribed(fresh_talk.platform, "talk", tmp_path)
    return fresh_talk


def replayed() -> Any:
    import typer

    app = typer.Typer()
    app.command()(replay)
    return CliRunner().invoke(app, ["talk", "--json"])


def test_a_talk_goes_through_remote_models_with_its_clips_shown_to_the_one_that_watches(
    fresh_talk: Talk, remote: Remote, sshd: Sshd
) -> None:
    before = sshd.logins
    result = fresh_talk.run(PipelineType.FULL, refinement_model="qwen3_vl_fp8", focus="habits", temperature=0.5)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    with fresh_talk.platform.database.read() as session:
        video = video_queries.require(session, "talk")
        transcript = transcript_queries.get(session, video.id)
        stored = clip_queries.of_video(session, video.id)
        configs = {c.operation_type: c for c in session.scalars(select(GenerationConfig))}
        prompts = {p.id: p for p in session.scalars(select(Prompt))}
    assert transcript and transcript.transcription_service == "parakeet"
    roots = fresh_talk.moments(refined=False)
    assert [m.title for m in roots] == [topic["title"] for topic in TRUTH["topics"]]
    assert [(m.start_time, m.end_time) for m in roots] == [(t["start_time"], t["end_time"]) for t in TRUTH["topics"]]
    assert {m.generation_model for m in fresh_talk.moments()} == {"qwen3_vl_fp8"}
    assert {m.scoring_model for m in fresh_talk.moments()} == {"qwen3_vl_fp8"} and all(
        m.scored_at for m in fresh_talk.moments()
    )
    assert remote.kinds() == {"generation": 1, "refinement": 4, "scoring": 1}
    shown = [part for body in remote.asked["refinement"] for part in body["messages"][-1]["content"]]
    urls = [part["video_url"]["url"] for part in shown if part["type"] == "video_url"]
    assert len(urls) == len(stored) == 4 and all(clip.moment_identifier in "".join(urls) for clip in stored)
    assert set(configs) == {"generation", "refinement", "scoring"}
    assert (configs["generation"].temperature, configs["generation"].model) == (0.5, "qwen3_vl_fp8")
    asked = prompts[configs["generation"].prompt_id]
    assert '"habits"' in asked.user_prompt and "bread" not in asked.user_prompt
    found = fresh_talk.metadata(result, "moments")
    assert (found["model"], found["questions"]) == ("qwen3_vl_fp8", 1) and found["prompt_tokens"] > 0
    assert found["raw_answers"].endswith("/api/videos/talk/answers/moments")
    assert sshd.logins == before + 1  # one connection for both models


def test_replay_derives_the_same_rows_without_any_model(talk: Talk, remote: Remote) -> None:
    assert talk.run(refinement_model="qwen3_vl_fp8").success
    asked = len(remote.chat.requests)
    done = replayed()
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [m[:2] for m in told["derived"]["moments"].values()] == [
        [m.start_time, m.end_time] for m in talk.moments(refined=False)
    ]
    assert len(told["derived"]["scores"]) == len(talk.moments()) and told["differences"] == []
    assert len(remote.chat.requests) == asked
    with talk.platform.database.session() as session:
        moment = moment_queries.get(session, talk.moments(refined=False)[0].identifier)
        assert moment
        moment.title = "Another"
    done = replayed()
    assert done.exit_code == 1 and "Another" in json.loads(done.stdout)["differences"][0]


def test_a_refinement_model_that_reads_text_only_leaves_the_clips_out(fresh_talk: Talk, remote: Remote) -> None:
    """As the ingest sensor launches it; refinement goes by sentences and silences."""
    request = submit(fresh_talk.platform, "talk", fresh_talk.url, {**ALL, "refinement_model": "minimax"})
    selection = jobs.selection(PipelineType.FULL, cut_clips=fresh_talk.platform.models.wants_clips("minimax"))
    result = execute(fresh_talk.platform, fresh_talk.instance, "talk", request_id=request, selection=selection)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    made = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events() if e.asset_key}
    assert made == {"video", "audio", "transcript", "moments", "refined_moments", "scores", "thumbnails"}
    assert remote.kinds()["refinement"] == 4 and not any(m.clip for m in fresh_talk.moments())
    checks = execute_checks(fresh_talk.platform, fresh_talk.instance, "talk")
    assert len(checks) == 10 and all(checks.values()), checks
    assert all(isinstance(body["messages"][-1]["content"], str) for body in remote.asked["refinement"])
    status = LiveStatus(fresh_talk.platform.redis).read("talk")
    assert status
    left_out = {s.stage for s in status.stages if s.status == "skipped"}
    assert left_out == {"CLIP_EXTRACTION", "CLIP_UPLOAD"}


def test_the_fallback_works_while_a_model_is_down_and_rows_say_so(talk: Talk, remote: Remote) -> None:
    registry = talk.platform.models.registry
    registry.change("qwen3_vl_fp8", {"remote_port": 9, "timeout_seconds": 1})
    registry.change("minimax", {"fallback": ""})
    result = talk.run(refinement_model="qwen3_vl_fp8")
    assert result.success
    assert {m.generation_model for m in talk.moments()} == {"minimax"}
    assert talk.metadata(result, "moments")["instead_of"].startswith("qwen3_vl_fp8: ")
    assert replayed().exit_code == 0


def test_a_model_that_goes_down_half_way_has_its_answers_kept(talk: Talk, remote: Remote) -> None:
    """Two moments are refined by the first model; its fallback goes on with the others."""
    assert talk.run(refinement_model="builtin_moments").success
    answered = len(remote.chat.requests)

    def down_after_two(question: str) -> str:
        if len(remote.asked["refinement"]) == 3:
            remote.chat.script(*[refuses(503, "busy", Retry_After="0")] * 4)
        return nearest_sentence(question)

    remote.answers["refinement"] = down_after_two
    talk.platform.models.registry.change("qwen3_vl_fp8", {"fallback": "builtin_moments"})
    result = talk.run(PipelineType.REFINEMENT_ONLY, refinement_model="qwen3_vl_fp8")
    assert result.success
    table = talk.metadata(result, "refined_moments")["refined"].replace("\\", "")
    assert table.count("| qwen3_vl_fp8 |") == 2 and table.count("| builtin_moments |") == 2
    assert answered < len(remote.chat.requests)
    assert replayed().exit_code == 0


def test_one_moment_is_refined_alone_and_the_others_stay(talk: Talk, remote: Remote) -> None:
    assert talk.run(refinement_model="qwen3_vl_fp8").success
    before, third = talk.moments(), talk.moments(refined=False)[2]
    remote.asked.clear()
    remote.answers["refinement"] = lambda question: '{"start": "keep", "end": "keep", "reason": "It is good."}'
    result = talk.refine(third.identifier, refinement_model="qwen3_vl_fp8")
    assert result.success
    assert remote.kinds() == {"refinement": 1, "scoring": 1}
    after = talk.moments()
    gone = {m.identifier for m in before} - {m.identifier for m in after}
    assert gone == {m.identifier for m in before if m.parent_identifier == third.identifier} and len(gone) == 1
    assert replayed().exit_code == 0
    other = talk.moments(refined=False)[0]
    result = talk.refine(
        other.identifier,
        refinement_model="builtin_moments",
        scoring_model="builtin_moments",
        max_moment_length=60,
    )
    assert result.success
    done = replayed()  # other lengths and other models for one moment: the answers about the others are kept
    assert done.exit_code == 0, done.output
    with talk.platform.database.read() as session:
        assert request_config(session, "talk").max_moment_length == 600


def test_replay_leaves_out_what_people_did_and_what_was_replaced(talk: Talk, remote: Remote) -> None:
    assert talk.run(refinement_model="qwen3_vl_fp8").success
    roots, children = talk.moments(refined=False), talk.moments(refined=True)
    with talk.platform.database.session() as session:
        for identifier in (roots[0].identifier, children[1].identifier):
            moment = moment_queries.get(session, identifier)
            assert moment
            moment.title, moment.edited_at = "By hand", datetime.now(UTC)
    done = replayed()
    assert done.exit_code == 0, done.output
    remote.answers["generation"] = lambda question: '{"moments": [{"first": 1, "last": 12, "title": "Half"}]}'
    result = execute(
        talk.platform,
        talk.instance,
        "talk",
        request_id=submit(talk.platform, "talk", None, dict(ALL)),
        kind=PipelineType.MOMENTS_ONLY,
        selection=[dg.AssetKey("moments")],
    )
    assert result.success
    done = replayed()
    assert done.exit_code == 0, done.output


def test_a_clip_that_can_not_be_shown_leaves_its_moment_and_no_clip_that_can_asks_the_fallback(
    talk: Talk, remote: Remote
) -> None:
    registry = talk.platform.models.registry
    registry.change("qwen3_vl_fp8", {"video_transport": "data", "max_video_bytes": 900_000, "fallback": ""})
    result = talk.run(refinement_model="qwen3_vl_fp8")
    assert result.success
    table = talk.metadata(result, "refined_moments")["refined"]
    assert 1 <= table.count("Kept: The clip has") < 4
    registry.change("qwen3_vl_fp8", {"max_video_bytes": 1_000})
    result = talk.run(PipelineType.REFINEMENT_ONLY, refinement_model="qwen3_vl_fp8")
    assert not result.success and failure_of(result)["code"] == "model_refused"
    registry.change("qwen3_vl_fp8", {"max_video_bytes": 9_000_000, "fallback": "builtin_moments"})
    remote.answers["refinement"] = lambda question: "It is a lovely clip."
    result = talk.run(PipelineType.REFINEMENT_ONLY, refinement_model="qwen3_vl_fp8")
    assert result.success
    assert talk.metadata(result, "refined_moments")["model"] == "builtin_moments"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"moments": []}', "The model found none."),
        (
            '{"moments": [{"first": 900, "last": 950, "title": "Nowhere"}]}',
            "No moment that the model named can be used.",
        ),
    ],
)
def test_none_found_is_a_result_with_its_reason(talk: Talk, remote: Remote, answer: str, reason: str) -> None:
    remote.answers["generation"] = lambda question: answer
    result = talk.run(refinement_model="qwen3_vl_fp8")
    assert result.success and talk.moments() == []
    assert talk.metadata(result, "moments")["reason"] == reason
    status = LiveStatus(talk.platform.redis).read("talk")
    assert status and status.reason == reason


def test_an_answer_that_makes_no_sense_twice_is_a_named_failure(talk: Talk, remote: Remote) -> None:
    remote.answers["generation"] = lambda question: "I would rather talk about the weather."
    talk.platform.models.registry.change("qwen3_vl_fp8", {"fallback": ""})
    result = talk.run(refinement_model="qwen3_vl_fp8")
    assert not result.success
    failure = failure_of(result)
    assert (failure["code"], failure["stage"]) == ("model_answer_invalid", "MOMENT_GENERATION")
    assert "weather" in str(failure["message"])


def test_nothing_said_in_a_video_changes_more_than_what_is_selected(talk: Talk, remote: Remote) -> None:
    """A model that is talked into everything can still only select sentences and title them."""
    remote.answers["generation"] = lambda question: json.dumps(
        {
            "moments": [
                {"first": 1, "last": 6, "title": "<script>x</script> ../../etc", "score": 99, "url": "http://x"}
            ],
            "settings": {"clock_check": "off"},
            "file": "/etc/passwd",
        }
    )
    remote.answers["refinement"] = lambda question: '{"start": "../../s1", "end": "file:///etc/passwd"}'
    assert talk.run(refinement_model="qwen3_vl_fp8").success
    [moment] = talk.moments()
    assert "<" not in moment.title and moment.score is not None and 0 <= moment.score <= 10
    objects = {stored.name for prefix in names.prefixes("talk") for stored in talk.platform.store.list(prefix)}
    assert {name.split("/")[0] for name in objects} <= {
        "videos",
        "audio",
        "keyframes",
        "clips",
        "thumbnails",
        "answers",
    }


@pytest.mark.parametrize("clock_check", ["refuse"])
def test_a_recognizer_that_drifts_is_refused_before_it_spoils_a_transcript(fresh_talk: Talk, remote: Remote) -> None:
    remote.speech.answer = calibration_heard(1 + 2.36 / 3600)
    result = fresh_talk.run(PipelineType.FULL)
    assert not result.success
    failure = failure_of(result)
    assert (failure["code"], failure["stage"]) == ("clock_untrusted", "TRANSCRIPTION")
    assert "drift" in str(failure["message"])
