"""ChatClient against a real HTTP server that speaks many dialects of the OpenAI protocol."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.models import stubs
from tests.models.stubs import ChatStub, Completion
from videomoments_dagster.errors import ModelAnswerInvalid, ModelRefused
from videomoments_dagster.models.chat import ChatAnswer, ChatClient, ImageUrl, Media, VideoUrl
from videomoments_dagster.models.protocols import Sampling

SCHEMA = {"type": "object", "properties": {"moments": {"type": "array"}}}
MOMENTS = '{"moments": []}'


@pytest.fixture
def stub() -> Iterator[ChatStub]:
    with ChatStub(lambda request: MOMENTS) as server:
        yield server


def _client(stub: ChatStub, **fields: Any) -> ChatClient:
    return ChatClient(stub.entry(**fields), stub.server(**fields))


def _ask(client: ChatClient, **options: Any) -> ChatAnswer:
    return client.complete("Find moments.", "1 Hello.", **{"sampling": Sampling(), **options})


def _hears(stub: ChatStub, said: str | Completion) -> str:
    stub.answer = lambda request: said
    return _ask(_client(stub)).text


def test_a_question_is_put_as_openai_has_it(stub: ChatStub) -> None:
    client = _client(stub, model_name="Qwen3-VL-FP8", top_p=0.9, max_tokens=2000)
    answer = _ask(client, schema=SCHEMA, sampling=Sampling(temperature=0.4, top_k=20))
    assert stub.requests[0].path == "/v1/chat/completions"
    assert stub.requests[0].body == {
        "model": "Qwen3-VL-FP8",
        "messages": [{"role": "system", "content": "Find moments."}, {"role": "user", "content": "1 Hello."}],
        "temperature": 0.4,
        "top_p": 0.9,
        "top_k": 20,
        "max_tokens": 2000,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        },
    }
    assert (answer.text, answer.finish_reason) == (MOMENTS, "stop")
    assert 0 < answer.seconds < 5


def test_what_is_not_set_is_not_sent(stub: ChatStub) -> None:
    _ask(_client(stub))
    assert set(stub.requests[0].body) == {"model", "messages", "temperature", "max_tokens"}


def test_the_entry_may_name_another_endpoint(stub: ChatStub) -> None:
    _ask(_client(stub, endpoint="/openai/deployments/x/chat/completions"))
    assert stub.requests[0].path == "/openai/deployments/x/chat/completions"


def test_videos_and_captioned_pictures_are_parts_before_the_question(stub: ChatStub) -> None:
    media: list[Media] = [VideoUrl("https://x/clip.mp4?sig=1"), ImageUrl("data:image/jpeg;base64,AA", "At 2.0 s")]
    _ask(_client(stub), media=[*media, ImageUrl("https://x/2.jpg")])
    assert stub.requests[0].body["messages"][1]["content"] == [
        {"type": "video_url", "video_url": {"url": "https://x/clip.mp4?sig=1"}},
        {"type": "text", "text": "At 2.0 s"},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AA"}},
        {"type": "image_url", "image_url": {"url": "https://x/2.jpg"}},
        {"type": "text", "text": "1 Hello."},
    ]


@pytest.mark.parametrize(
    ("unknown", "sent"),
    [
        ((), ["json_schema", "json_schema"]),
        (("json_schema",), ["json_schema", "json_object", "json_object"]),
        (("json_schema", "json_object"), ["json_schema", "json_object", None, None]),
        (("response_format",), ["json_schema", "json_object", None, None]),
    ],
)
def test_a_format_the_server_refuses_is_given_up_for_a_simpler_one_for_good(
    stub: ChatStub, unknown: tuple[str, ...], sent: list[str | None]
) -> None:
    stub.unknown = set(unknown)
    client = _client(stub)
    assert _ask(client, schema=SCHEMA).text == _ask(client, schema=SCHEMA).text == MOMENTS
    assert [request.body.get("response_format", {}).get("type") for request in stub.requests] == sent


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "This response_format type is unavailable now"),
        (400, "Unsupported response_format. Supported: model, messages, temperature, max_tokens"),
        (400, {"error": {"message": "Invalid schema for response_format 'answer'", "param": "response_format"}}),
        (422, {"detail": [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}]}),
        (400, {"object": "error", "message": "Failed to compile the grammar: unsupported keyword", "code": 400}),
        (400, None),
    ],
)
def test_a_refused_format_is_recognized_in_many_words(stub: ChatStub, status: int, body: Any) -> None:
    stub.script(stubs.refuses(status, body))
    assert _ask(_client(stub), schema=SCHEMA).text == MOMENTS
    assert stub.requests[1].body["response_format"] == {"type": "json_object"}


def test_a_refusal_without_a_word_costs_only_one_question_its_format(stub: ChatStub) -> None:
    stub.script(stubs.refuses(400, None))
    client = _client(stub)
    _ask(client, schema=SCHEMA)
    _ask(client, schema=SCHEMA)
    sent = [request.body["response_format"]["type"] for request in stub.requests]
    assert sent == ["json_schema", "json_object", "json_schema"]


@pytest.mark.parametrize(
    ("refusal", "options"),
    [
        ("System role not supported", {}),
        ("Unrecognized request argument supplied: top_k", {}),
        ("'max_tokens' is not supported. Use 'max_completion_tokens' instead.", {}),
        ("This response_format type is unavailable now", {"schema": SCHEMA}),
    ],
)
def test_two_questions_refused_at_the_same_time_are_both_put_again(
    stub: ChatStub, refusal: str, options: dict[str, Any]
) -> None:
    both = threading.Barrier(2)

    def refuse(reply: stubs.Reply) -> None:
        both.wait(5)
        stubs.refuses(400, refusal)(reply)

    stub.script(refuse, refuse)
    client = _client(stub, top_k=20)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(_ask, client, **options) for _ in range(2)]
        assert [each.result().text for each in asked] == [MOMENTS, MOMENTS]
    assert len(stub.requests) == 4


def test_parameters_the_server_does_not_know_are_left_out_for_good(stub: ChatStub) -> None:
    stub.unknown = {"top_k", "top_p"}
    client = _client(stub, top_k=20, top_p=0.9)
    _ask(client)
    assert _ask(client, sampling=Sampling(top_k=5)).text == MOMENTS
    assert [set(r.body) & {"top_k", "top_p", "temperature"} for r in stub.requests] == [
        {"top_k", "top_p", "temperature"},
        {"top_p", "temperature"},
        {"temperature"},
        {"temperature"},
    ]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "Unrecognized request argument supplied: top_k"),
        (400, {"error": {"message": "Unknown parameter.", "param": "top_k", "code": "unknown_parameter"}}),
        (422, {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": 20}]}),
        (400, "property 'top_k' is unsupported, did you mean 'top_p'?"),
        (400, "top_k is not supported. Supported: model, messages, response_format"),
    ],
)
def test_an_unknown_parameter_is_recognized_in_many_words(stub: ChatStub, status: int, body: Any) -> None:
    stub.script(stubs.refuses(status, body))
    _ask(_client(stub, top_k=20, top_p=0.9), schema=SCHEMA)
    assert "top_k" not in stub.requests[1].body
    assert {"top_p", "temperature", "response_format"} <= set(stub.requests[1].body)


def test_the_newer_name_of_max_tokens_is_used_when_the_server_asks_for_it(stub: ChatStub) -> None:
    refusal = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    stub.script(stubs.refuses(400, refusal))
    _ask(_client(stub, max_tokens=900))
    assert stub.requests[1].body["max_completion_tokens"] == 900
    assert "max_tokens" not in stub.requests[1].body


def test_a_template_without_a_system_role_gets_one_message(stub: ChatStub) -> None:
    stub.script(stubs.refuses(400, "System role not supported"))
    client = _client(stub)
    _ask(client)
    _ask(client, media=[ImageUrl("https://x/1.jpg")])
    assert stub.requests[1].body["messages"] == [{"role": "user", "content": "Find moments.\n\n1 Hello."}]
    (message,) = stub.requests[2].body["messages"]
    assert message["content"][0] == {"type": "text", "text": "Find moments."}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "'max_tokens' is too large: 4096. This model's maximum context length is 8192 tokens"),
        (400, "4096 max_tokens are not supported: the maximum context length is 2048"),
        (400, "temperature must be at most 1"),
        (400, "The video could not be fetched"),
        (404, "The model `x` does not exist: json_schema"),
        (401, "Unknown key; top_k"),
    ],
)
def test_other_refusals_are_not_argued_with(stub: ChatStub, status: int, message: str) -> None:
    stub.script(stubs.refuses(status, message))
    with pytest.raises(ModelRefused, match=message.partition(":")[0]):
        _ask(_client(stub, top_k=20), schema=SCHEMA)
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(f"<think>They want {{}}.</think>\n\n{MOMENTS}", id="thinking first"),
        pytest.param(f"They want moments.\n</think>\n{MOMENTS}", id="only the closing tag"),
        pytest.param(f"<THINK>a</THINK><think>b\nc</think>{MOMENTS}", id="two thoughts"),
        pytest.param(f"{MOMENTS}\n<think>Was that good?", id="a thought cut off after the answer"),
        pytest.param(Completion([{"type": "text", "text": MOMENTS[:5]}, {"text": MOMENTS[5:]}]), id="parts"),
        pytest.param(Completion(MOMENTS, reasoning={"reasoning_content": "Hm."}), id="reasoning apart"),
        pytest.param(Completion(None, reasoning={"reasoning_content": MOMENTS}), id="all of it taken for reasoning"),
        pytest.param(Completion("", reasoning={"reasoning": f"a</think>{MOMENTS}"}), id="the same, newer name"),
        pytest.param(f"\0{MOMENTS}\ud83d", id="characters that can't be stored"),
    ],
)
def test_only_the_answer_is_left_of_an_answer(stub: ChatStub, said: str | Completion) -> None:
    assert _hears(stub, said) == MOMENTS


def test_fences_and_prose_around_the_answer_are_for_the_parser(stub: ChatStub) -> None:
    said = f"Here you are:\n```json\n{MOMENTS}\n```"
    assert _hears(stub, said) == said


@pytest.mark.parametrize(
    "said",
    [
        Completion("", "length", {"reasoning_content": "First, I"}),
        Completion(None, "length"),
        Completion("<think>First, I", "length"),
    ],
)
def test_a_limit_spent_on_thinking_is_said_to_be_that(stub: ChatStub, said: Completion) -> None:
    stub.answer = lambda request: said
    with pytest.raises(ModelAnswerInvalid, match="spent all 800 tokens of max_tokens thinking") as error:
        _ask(_client(stub, key="minimax", max_tokens=800))
    assert "models set minimax max_tokens" in error.value.hint
    assert len(stub.requests) == 1


def test_an_answer_cut_off_by_the_limit_is_handed_on(stub: ChatStub) -> None:
    stub.answer = lambda request: Completion('{"moments": [{"tit', "length")
    answer = _ask(_client(stub))
    assert (answer.text, answer.finish_reason) == ('{"moments": [{"tit', "length")


def test_an_empty_answer_is_asked_for_again_and_both_are_counted(stub: ChatStub) -> None:
    stub.answer = lambda request: "" if len(stub.requests) == 1 else "one two three"
    answer = _ask(_client(stub))
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("one two three", 8, 3)


@pytest.mark.parametrize(
    "body", [{}, [], {"choices": []}, {"choices": [{"text": "x"}]}, {"choices": [None]}, "x", None]
)
def test_an_answer_without_words_is_invalid(stub: ChatStub, body: Any) -> None:
    stub.script(*[stubs.says_body(json.dumps(body).encode())] * 2)
    with pytest.raises(ModelAnswerInvalid, match="answers without words, 2 times"):
        _ask(_client(stub))


def test_tokens_are_counted_as_the_server_counts_them(stub: ChatStub) -> None:
    stub.script(stubs.refuses(500, "busy"), stubs.cut_half_way())
    stub.answer = lambda request: Completion("x", usage={"prompt_tokens": "120", "completion_tokens": 7})
    answer = _ask(_client(stub))
    assert (answer.prompt_tokens, answer.completion_tokens) == (120, 7)


@pytest.mark.parametrize("usage", [{"total_tokens": 9}, {"prompt_tokens": None, "completion_tokens": "many"}])
def test_a_server_that_does_not_count_leaves_the_count_open(stub: ChatStub, usage: dict[str, Any]) -> None:
    stub.answer = lambda request: Completion("x", usage=usage)
    answer = _ask(_client(stub))
    assert (answer.prompt_tokens, answer.completion_tokens) == (None, None)


def test_a_model_without_a_name_is_the_first_that_the_server_lists_asked_once(stub: ChatStub) -> None:
    stub.models = ["llama-3", "other"]
    client = _client(stub)
    _ask(client)
    _ask(client)
    assert [request.body["model"] for request in stub.requests] == ["llama-3", "llama-3"]
    assert stub.listings == 1


def _serving_only_what_it_lists(stub: ChatStub) -> None:
    """vLLM's way: any other name is 404."""

    def answer(reply: stubs.Reply) -> None:
        name = stub.requests[-1].body.get("model")
        known = name in stub.models
        refusal = json.dumps({"error": {"message": f"The model `{name}` does not exist."}}).encode()
        reply.send() if known else reply.send(refusal, 404)

    stub.script(*[answer] * 10)


def test_a_listed_name_is_asked_for_again_when_the_server_has_another_model(stub: ChatStub) -> None:
    _serving_only_what_it_lists(stub)
    client = _client(stub)
    stub.models = ["llama-3"]
    _ask(client)
    stub.models = ["llama-4"]
    assert _ask(client).text == _ask(client).text == MOMENTS
    assert [request.body["model"] for request in stub.requests] == ["llama-3", "llama-3", "llama-4", "llama-4"]
    assert stub.listings == 2


def test_a_listed_name_that_the_server_does_not_know_is_refused_at_once(stub: ChatStub) -> None:
    stub.script(*[stubs.refuses(404, "The model does not exist.")] * 2)
    for _ in range(2):
        with pytest.raises(ModelRefused, match="does not exist"):
            _ask(_client(stub))
    assert len(stub.requests) == 2


def test_a_name_in_the_entry_is_not_replaced(stub: ChatStub) -> None:
    _serving_only_what_it_lists(stub)
    with pytest.raises(ModelRefused, match="`mine` does not exist"):
        _ask(_client(stub, model_name="mine"))
    assert (len(stub.requests), stub.listings) == (1, 0)


def test_a_listing_that_failed_is_asked_for_again(stub: ChatStub) -> None:
    client = _client(stub)
    stub.listing_fault = stubs.refuses(401, "not yet")
    _ask(client)
    stub.listing_fault = None
    _ask(client)
    assert [request.body.get("model") for request in stub.requests] == [None, "stub-model"]


def test_a_server_that_lists_no_models_is_asked_without_a_name(stub: ChatStub) -> None:
    stub.models = []
    assert _ask(_client(stub)).text == MOMENTS
    assert "model" not in stub.requests[0].body


def test_what_one_client_learned_the_next_one_of_the_same_server_knows(stub: ChatStub) -> None:
    stub.unknown = {"json_schema"}
    server = stub.server()
    for _ in range(2):
        _ask(ChatClient(stub.entry(), server), schema=SCHEMA)
    assert len(stub.requests) == 3
