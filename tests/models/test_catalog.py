"""Which model does the work: the one asked for, its fallback while it is down, none that hides what is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_client

from tests.models.stubs import ChatStub, refuses
from tests.moments.talks import talk
from videomoments_dagster.errors import InvalidConfig, ModelNotConfigured, ModelRefused, ModelUnavailable, NotFound
from videomoments_dagster.models.catalog import Models, Used
from videomoments_dagster.models.protocols import ChatModel, Found, Sampling
from videomoments_dagster.models.registry import ModelRegistry
from videomoments_dagster.models.retries import Retries
from videomoments_dagster.moments.moment import FindOptions
from videomoments_dagster.settings import get_settings

TALK = talk(1, 300)
AWAY = "http://127.0.0.1:9"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def models(home: Path, redis: "redis_client.Redis", said: list[str], monkeypatch: pytest.MonkeyPatch) -> Models:
    monkeypatch.setattr(Retries, "pause_seconds", lambda *_: 0.001)
    settings = get_settings()
    return Models(ModelRegistry(redis, settings), settings, warn=said.append)


@pytest.fixture
def chat() -> Iterator[ChatStub]:
    answer = {"moments": [{"first": 1, "last": 12, "title": "One", "score": 5, "reason": "It is."}]}
    with ChatStub(lambda body: json.dumps(answer)) as stub:
        yield stub


def find(models: Models, key: str | None, **sampling: int) -> Used[ChatModel, Found]:
    return models.chat("generation", key, Sampling(**sampling), lambda model: model.find(TALK, FindOptions()))


def test_a_model_that_is_down_is_replaced_by_the_first_fallback_that_works(models: Models, said: list[str]) -> None:
    models.registry.change("first", {"kind": "chat", "base_url": AWAY})
    models.registry.change("second", {"kind": "chat", "fallback": "builtin_moments"})  # not configured
    models.registry.change("first", {"fallback": "second"})
    used = find(models, "first")
    assert used.model.key == "builtin_moments" and used.answer.result.moments
    assert len(used.instead_of) == 1 and used.instead_of[0].startswith("first: first at 127.0.0.1:9")
    assert "second can't be fallen back to" in said[1]


@pytest.mark.parametrize("fallback", ["unconfigured", "gone", "ears", "loop"])
def test_a_fallback_that_can_not_be_used_leaves_the_error_of_the_model_that_is_down(
    models: Models, redis: "redis_client.Redis", fallback: str
) -> None:
    models.registry.change("unconfigured", {"kind": "chat"})
    models.registry.change("ears", {"kind": "speech", "base_url": AWAY})
    models.registry.change("first", {"kind": "chat", "base_url": AWAY})
    models.registry.change("loop", {"kind": "chat", "base_url": AWAY, "fallback": "first"})
    redis.hset("model:config:first", "fallback", fallback)  # by hand: an edit would be refused
    with pytest.raises(ModelUnavailable, match=r"first at .* refuses the connection") as failure:
        find(models, "first")
    assert failure.value.retryable


def test_what_the_operator_has_to_mend_is_never_hidden_by_a_fallback(models: Models, chat: ChatStub) -> None:
    models.registry.change("first", {"kind": "chat", "base_url": chat.url, "fallback": "builtin_moments"})
    chat.script(refuses(401, "Wrong key."))
    with pytest.raises(ModelRefused, match="Wrong key"):
        find(models, "first")
    with pytest.raises(NotFound, match="nobody"):
        find(models, "nobody")
    with pytest.raises(ModelNotConfigured, match="qwen3_omni"):
        find(models, "qwen3_omni")
    with pytest.raises(InvalidConfig, match="not a language model"):
        find(models, "builtin_speech")
    with pytest.raises(InvalidConfig, match="not a speech recognizer"):
        models.speech("builtin_moments", lambda recognizer: None)


def test_an_edit_takes_effect_at_once_and_leaves_no_connection_behind(models: Models, chat: ChatStub) -> None:
    models.registry.change("mine", {"kind": "chat", "base_url": chat.url})
    for number in range(5):
        models.registry.change("mine", {"model_name": f"name-{number}"})
        assert find(models, "mine").model.key == "mine"
    assert [request.body["model"] for request in chat.requests] == [f"name-{n}" for n in range(5)]
    assert len(models._servers) == len(models._chats) == 1
    find(models, "mine")
    assert chat.connections == 5  # the sixth question went over the fifth's connection


def test_an_answer_may_not_take_more_than_half_of_the_context(models: Models, chat: ChatStub) -> None:
    models.registry.change("mine", {"kind": "chat", "base_url": chat.url, "context_tokens": "8192"})
    used = find(models, "mine", max_tokens=1_000_000)
    assert used.model.sampling.max_tokens == chat.requests[0].body["max_tokens"] == 4096


def test_an_answer_without_sense_is_asked_for_once_more_and_both_are_counted(models: Models, chat: ChatStub) -> None:
    models.registry.change("mine", {"kind": "chat", "base_url": chat.url})
    answers = iter(["Let me think.", '{"moments": []}'])
    chat.answer = lambda body: next(answers)
    used = find(models, "mine")
    assert used.answer.result.reason == "The model found none."
    [exchange] = used.answer.exchanges
    assert exchange.completion_tokens == 5 and [r.body["temperature"] for r in chat.requests] == [0.0, 0.3]
