"""What a retry does, and what it does not do twice: bytes are fetched once, a model is asked once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from db.queries import moments as moment_queries
from db.queries import videos as video_queries
from tests import factories
from tests.defs.pipeline import execute, failure_of, submit
from tests.defs.remote_models import nearest_sentence, scored, store_transcribed, talk_heard, true_topics
from tests.models.stubs import ChatStub, SpeechStub, refuses, text_of
from tests.sample import VIDEO
from tests.web import serving
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.resuming import left_undone
from videomoments_dagster.models.retries import Retries
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names

pytestmark = pytest.mark.slow
MODELS = {
    "speech_model": "parakeet",
    "generation_model": "minimax",
    "refinement_model": "minimax",
    "scoring_model": "minimax",
    "cut_clips": False,
}


@pytest.fixture
def chat() -> Iterator[ChatStub]:
    def answer(body: dict[str, Any]) -> str:
        system, text = body["messages"][0]["content"], text_of(body)
        if "choose" in system:
            return nearest_sentence(text)
        return scored(text) if "rate" in system else true_topics(text)

    with ChatStub(answer) as stub:
        yield stub


@pytest.fixture
def speech() -> Iterator[SpeechStub]:
    with SpeechStub(talk_heard) as stub:
        yield stub


@pytest.fixture
def models(
    platform: PlatformResource, chat: ChatStub, speech: SpeechStub, monkeypatch: pytest.MonkeyPatch
) -> PlatformResource:
    """The platform, with both stubs in its registry, and no pauses between attempts."""
    monkeypatch.setenv("VIDEOMOMENTS_CLOCK_CHECK", "off")
    get_settings.cache_clear()
    monkeypatch.setattr(Retries, "pause_seconds", lambda *_: 0.001)
    monkeypatch.setattr("dagster._core.definitions.policy.RetryPolicy.calculate_delay", lambda self, attempt: 0)
    platform.models.registry.change("minimax", {"base_url": chat.url, "fallback": ""})
    platform.models.registry.change("parakeet", {"base_url": speech.url})
    return platform


def asked(chat: ChatStub) -> Counter[str]:
    """How often each question was put and answered."""
    return Counter(text_of(request.body) for request in chat.requests)


def test_a_stage_that_is_tried_again_asks_only_what_was_not_answered(
    models: PlatformResource, instance: dg.DagsterInstance, chat: ChatStub, tmp_path: Path
) -> None:
    """The server goes away at the third of the questions about boundaries, for the rest of that attempt."""
    store_transcribed(models, "talk", tmp_path)
    answer, away = chat.answer, Counter[str]()

    def goes_away(body: dict[str, Any]) -> str:
        question = text_of(body)
        if "choose" in body["messages"][0]["content"]:
            away[question] += 1
            if len(away) == 3 and away[question] == 1:
                chat.script(*[refuses(503)] * 4)  # this one and its tries
        return str(answer(body))

    chat.answer = goes_away
    request = submit(models, "talk", None, MODELS, PipelineType.MOMENTS_ONLY)
    selection = [dg.AssetKey(asset) for asset in ("moments", "refined_moments", "scores")]
    result = execute(models, instance, "talk", request_id=request, kind=PipelineType.MOMENTS_ONLY, selection=selection)
    assert result.success
    assert [event.node_name for event in result.all_events if event.is_step_up_for_retry] == ["refined_moments"]
    counts = asked(chat)
    assert sorted(counts[question] for question in away) == [1, 1, 1, 5], "only the one that got no answer"
    assert {count for question, count in counts.items() if question not in away} == {1}
    with models.database.read() as session:
        found = moment_queries.of_video(session, video_queries.require(session, "talk").id, refined=True)
    assert len(found) == len(away) == 4
    assert list(models.store.list(names.unfinished_answers("talk", "refined_moments"))) == []


def test_a_failed_run_is_retried_from_its_failed_stage_and_fetches_and_asks_nothing_twice(
    models: PlatformResource, instance: dg.DagsterInstance, chat: ChatStub, speech: SpeechStub
) -> None:
    chat.fault = refuses(401)
    with serving() as web:
        url = web.serve_file("/talk.mp4", VIDEO)
        request = submit(models, "talk", url, MODELS)
        failed = execute(models, instance, "talk", request_id=request)
        assert failure_of(failed)["code"] == "model_refused"
        undone = left_undone(instance, models, "talk", PipelineType.FULL, None)
        assert {key.to_user_string() for key in undone or ()} == {
            "moments", "clips", "refined_moments", "scores", "thumbnails",
        }  # fmt: skip
        chat.fault = None
        before = len(chat.requests)
        again = submit(models, "talk", None, {**MODELS, "resume": True})
        assert execute(models, instance, "talk", request_id=again, selection=undone).success
        assert (web.hits["/talk.mp4"], len(speech.requests)) == (1, 1)
    assert set(Counter(text_of(request.body) for request in chat.requests[before:]).values()) == {1}
    assert left_undone(instance, models, "talk", PipelineType.FULL, None) is None, (
        "all is done: all would be done again"
    )


def test_what_a_blocking_check_rejected_is_done_again(
    platform: PlatformResource, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    store_transcribed(platform, "talk", tmp_path)
    instance.add_dynamic_partitions(VIDEOS, ["talk"])
    instance.report_runless_asset_event(dg.AssetMaterialization("transcript", partition="talk"))
    wanted = [dg.AssetKey("transcript")]
    assert left_undone(instance, platform, "talk", PipelineType.FULL, wanted) == wanted, "nothing is left: all of it"
    both = [dg.AssetKey("audio"), *wanted]
    assert left_undone(instance, platform, "talk", PipelineType.FULL, both) == [dg.AssetKey("audio")]
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=wanted[0], check_name="words_in_order", passed=False, metadata={}, partition="talk"
        )
    )
    assert left_undone(instance, platform, "talk", PipelineType.FULL, both) == both


def test_what_was_made_of_an_earlier_video_of_the_same_name_is_not_done(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """Deleted, and submitted again from another URL: Dagster remembers the first one's materializations."""
    everything = [dg.AssetKey(asset) for asset in ("video", "audio", "transcript")]
    instance.add_dynamic_partitions(VIDEOS, ["talk"])
    for key in everything:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="talk"))
    assert left_undone(instance, platform, "talk", PipelineType.FULL, everything) == everything
    assert left_undone(instance, platform, "talk", PipelineType.FULL, None) is None
    with platform.database.session() as session:
        factories.video(session, identifier="talk")
    instance.report_runless_asset_event(dg.AssetMaterialization("video", partition="talk"))
    assert left_undone(instance, platform, "talk", PipelineType.FULL, everything) == everything[1:]


def test_what_a_recognizer_heard_survives_rows_that_can_not_be_written(
    models: PlatformResource, instance: dg.DagsterInstance, speech: SpeechStub, tmp_path: Path
) -> None:
    store_transcribed(models, "talk", tmp_path)
    with models.database.session() as session:
        _refuse_transcripts(session, refuse=True)
    request = submit(models, "talk", None, MODELS)
    only = [dg.AssetKey("transcript")]
    assert not execute(models, instance, "talk", request_id=request, selection=only).success
    assert len(speech.requests) == 1
    with models.database.session() as session:
        _refuse_transcripts(session, refuse=False)
    assert execute(models, instance, "talk", request_id=request, selection=only).success
    assert len(speech.requests) == 1


def _refuse_transcripts(session: Any, *, refuse: bool) -> None:
    from sqlalchemy import text

    if refuse:
        session.execute(text("ALTER TABLE transcripts ADD CONSTRAINT none CHECK (false) NOT VALID"))
    else:
        session.execute(text("ALTER TABLE transcripts DROP CONSTRAINT none"))
