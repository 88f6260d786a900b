"""The model registry over HTTP: shown, set, forgotten and checked."""

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import assert_problem
from tests.models.stubs import ChatStub, refuses

_MODELS = "/api/admin/models"


def test_models_are_listed_set_anew_and_forgotten(client: TestClient) -> None:
    known = client.get(_MODELS).json()
    assert known["broken"] == []
    assert {each["key"] for each in known["items"]} >= {"builtin_moments", "qwen3_vl_fp8", "parakeet"}
    body = {"kind": "chat", "base_url": "http://127.0.0.1:9", "max_tokens": 512, "temperature": 0.5}
    made = client.put(f"{_MODELS}/mine", json=body)
    assert made.status_code == 200, made.text
    assert (made.json()["entry"]["max_tokens"], made.json()["is_configured"]) == (512, True)
    assert client.get(f"{_MODELS}/mine").json() == made.json()
    again = client.put(f"{_MODELS}/mine", json={"kind": "chat", "base_url": "http://127.0.0.1:9"}).json()
    assert (again["entry"]["max_tokens"], again["entry"]["temperature"]) == (4096, 0.0), "what is left out is reset"
    assert again["verdict"] is None
    assert client.delete(f"{_MODELS}/mine").status_code == 204
    assert_problem(client.get(f"{_MODELS}/mine"), 404, "not_found")
    assert_problem(client.delete(f"{_MODELS}/mine"), 404, "not_found")


@pytest.mark.parametrize(
    ("key", "body", "code"),
    [
        ("mine", {}, "invalid_input"),
        ("mine", {"kind": "chat", "colour": "red"}, "invalid_input"),
        ("mine", {"kind": "chat", "base_url": "ftp://x"}, "invalid_input"),
        ("mine", {"kind": "chat", "base_url": "http://user:secret@x"}, "invalid_input"),
        ("mine", {"kind": "chat", "base_url": "http://x", "ssh_host": "y"}, "invalid_config"),
        ("mine", {"kind": "chat", "fallback": "nobody"}, "invalid_config"),
        ("builtin_moments", {"kind": "chat"}, "invalid_config"),
        ("Mine", {"kind": "chat"}, "invalid_input"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_and_changes_nothing(
    client: TestClient, key: str, body: dict, code: str
) -> None:
    before = client.get(_MODELS).json()
    problem = assert_problem(client.put(f"{_MODELS}/{key}", json=body), 422, code)
    assert "secret" not in problem["detail"]
    assert client.get(_MODELS).json() == before


def test_a_model_is_checked_and_the_verdict_kept_until_it_is_changed(client: TestClient) -> None:
    with ChatStub(lambda body: '{"animals": 3}') as chat:
        entry = {"kind": "chat", "base_url": chat.url}
        client.put(f"{_MODELS}/mine", json=entry)
        checked = client.post(f"{_MODELS}/mine/check")
        assert checked.status_code == 200, checked.text
        verdict = checked.json()["verdict"]
        assert verdict["trusted"] and verdict["latency_seconds"] > 0
        assert client.get(f"{_MODELS}/mine").json()["verdict"] == verdict
        chat.fault = refuses(401, "no")
        assert_problem(client.post(f"{_MODELS}/mine/check"), 502, "model_refused")
        client.put(f"{_MODELS}/mine", json={**entry, "model_name": "other"})
        assert client.get(f"{_MODELS}/mine").json()["verdict"] is None
    assert_problem(client.post(f"{_MODELS}/qwen3_vl_fp8/check"), 422, "model_not_configured")
    assert_problem(client.post(f"{_MODELS}/nobody/check"), 404, "not_found")
