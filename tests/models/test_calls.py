"""What is told of a question to a remote model, by a real client of a real server."""

from collections.abc import Iterator

import pytest

from tests.models import stubs
from tests.models.stubs import ChatStub
from videomoments_dagster.errors import ModelRefused
from videomoments_dagster.models.calls import ModelCall
from videomoments_dagster.models.chat import ChatClient
from videomoments_dagster.models.protocols import Sampling


@pytest.fixture
def stub() -> Iterator[ChatStub]:
    with ChatStub(lambda request: "Yes.") as server:
        yield server


def test_answers_and_refusals_are_told_with_their_time_and_tokens(stub: ChatStub) -> None:
    calls: list[ModelCall] = []
    client = ChatClient(stub.entry(), stub.server(), calls.append)
    answer = client.complete("Answer.", "Is it?", sampling=Sampling())
    stub.script(stubs.refuses(401, "who?"))
    with pytest.raises(ModelRefused):
        client.complete("Answer.", "Is it?", sampling=Sampling())
    assert [(call.model, call.kind, call.outcome) for call in calls] == [
        (stub.entry().key, "chat", "answered"),
        (stub.entry().key, "chat", "model_refused"),
    ]
    assert all(0 < call.seconds < 30 for call in calls)
    assert answer.prompt_tokens and calls[0].tokens() == {
        "prompt": answer.prompt_tokens,
        "completion": answer.completion_tokens,
    }
    assert calls[1].tokens() == {}
