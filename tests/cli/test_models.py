"""`videomoments models`: what is shown of the registry, what an edit may be, and what a check finds."""

import json
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from typer.testing import CliRunner, Result

from tests.defs.remote_models import calibration_heard
from tests.models.stubs import ChatStub, SpeechStub
from videomoments_dagster.cli.models import app
from videomoments_dagster.errors import InvalidConfig, NotFound
from videomoments_dagster.settings import get_settings


@pytest.fixture(autouse=True)
def registry(home: Path, redis: "redis_client.Redis", redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    get_settings.cache_clear()


def models(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    return json.loads(models(*arguments, "--json").stdout)


def test_every_key_is_listed_with_its_effective_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOMOMENTS_SSH_HOST", "gate.example.org")
    get_settings.cache_clear()
    listed = {entry["key"]: entry for entry in told("list")}
    assert set(listed) == {"builtin_moments", "builtin_speech", "minimax", "parakeet", "qwen3_omni", "qwen3_vl_fp8"}
    assert listed["parakeet"]["ssh_host"] == "gate.example.org" and listed["parakeet"]["default_for"] == ["speech"]
    assert listed["qwen3_vl_fp8"]["default_for"] == ["generation", "refinement", "scoring"]
    assert "worker-7:8006 behind gate.example.org" in " ".join(models("list").stdout.split())
    everything = models("list", "--settings").stdout
    assert all(key in everything for key in listed) and everything.count("remote_port") == 6


def test_an_edit_is_seen_at_once_and_a_bad_one_changes_nothing() -> None:
    assert models("set", "minimax", "base_url=http://127.0.0.1:1", "temperature=0.5").exit_code == 0
    assert told("show", "minimax")["temperature"] == 0.5
    refused = models("set", "minimax", "temperature=9")
    assert isinstance(refused.exception, InvalidConfig) and "temperature" in refused.exception.message
    assert models("set", "minimax", "temperature").exit_code == 2
    assert models("set", "minimax", "model_name=123").exit_code == 0 and told("show", "minimax")["model_name"] == "123"
    assert told("show", "minimax")["temperature"] == 0.5
    assert models("remove", "minimax").exit_code == 0
    assert told("show", "minimax")["base_url"] == ""
    assert isinstance(models("show", "nobody").exception, NotFound)


def test_a_check_tells_latency_and_records_its_verdict() -> None:
    with ChatStub(lambda body: '{"animals": 3}') as chat:
        models("set", "mine", "kind=chat", f"base_url={chat.url}")
        done = models("check", "mine")
        assert done.exit_code == 0 and "latency" in done.stdout
        [mine] = [entry for entry in told("list") if entry["key"] == "mine"]
        assert mine["verdict"]["trusted"] is True
        assert len(told("check")) == 1  # the others are not configured


def test_a_check_finds_a_drifting_recognizer_and_fails() -> None:
    with SpeechStub(calibration_heard(1 + 2.36 / 3600)) as speech:
        models("set", "parakeet", f"base_url={speech.url}")
        done = models("check", "parakeet", "--json")
    assert done.exit_code == 1
    [outcome] = json.loads(done.stdout)
    assert outcome["verdict"]["drift_seconds_an_hour"] == pytest.approx(2.36, abs=0.4)
    assert told("show", "parakeet")["verdict"]["trusted"] is False
    assert "clock wrong" in models("list").stdout


def test_a_model_that_is_away_is_said_so_and_the_others_are_checked() -> None:
    with ChatStub(lambda body: '{"animals": 3}') as chat:
        models("set", "away", "kind=chat", "base_url=ftp://x")  # refused
        models("set", "b_good", "kind=chat", f"base_url={chat.url}")
        models(
            "set", "a_bad", "kind=chat", f"base_url={chat.url}", "endpoint=/nowhere", "api_key_variable=NOT_SET_HERE"
        )
        done = models("check", "--json")
    outcomes = {outcome["key"]: outcome for outcome in json.loads(done.stdout)}
    assert done.exit_code == 1 and set(outcomes) == {"a_bad", "b_good"}
    assert outcomes["b_good"]["passed"] and "NOT_SET_HERE" in outcomes["a_bad"]["told"]


def test_what_was_broken_by_hand_and_what_does_not_exist_is_said(
    redis: "redis_client.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    models("list")
    redis.hset("model:config:qwen3_vl_fp8", "remote_port", "many")
    monkeypatch.setenv("VIDEOMOMENTS_SPEECH_MODEL", "nobody")
    get_settings.cache_clear()
    listed = models("list")
    assert listed.exit_code == 0 and "parakeet" in listed.stdout
    said = " ".join(listed.stderr.split())
    assert "qwen3_vl_fp8 can't be used" in said and "remote_port" in said and "no model nobody" in said
