"""The model registry in a real Redis: seeded, edited while it is used, and never broken by an edit."""

from collections import UserDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis as redis_client

from videomoments_dagster.errors import InvalidConfig, NotFound
from videomoments_dagster.models.defaults import DEFAULTS
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.registry import KEYS, ModelRegistry, Verdict
from videomoments_dagster.settings import Settings, get_settings

VERDICT = Verdict("", True, "in order", 0.0, 0.0, 0.1, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def registry(home: Path, redis: "redis_client.Redis") -> Iterator[ModelRegistry]:
    return ModelRegistry(redis, get_settings())  # pyright: ignore[reportReturnType]


def test_an_empty_registry_is_seeded_with_the_codes_models(
    registry: ModelRegistry, redis: "redis_client.Redis"
) -> None:
    entries = {entry.key: entry for entry in registry.entries()}
    assert set(entries) == {"builtin_moments", "builtin_speech", "minimax", "parakeet", "qwen3_omni", "qwen3_vl_fp8"}
    assert redis.smembers(KEYS) == set(entries)
    assert redis.hget("model:config:parakeet", "remote_port") == "8006"
    assert redis.hget("model:config:qwen3_vl_fp8", "supports_video") == "true"
    assert entries["parakeet"] == DEFAULTS["parakeet"]
    assert not entries["parakeet"].is_configured and entries["builtin_speech"].is_configured


def test_an_edit_holds_and_a_second_seeding_leaves_it(registry: ModelRegistry) -> None:
    registry.change("minimax", {"ssh_host": "gpu.example.org", "context_tokens": "65536", "top_p": "0.9"})
    registry.seed()
    entry = registry.get("minimax")
    assert (entry.ssh_host, entry.context_tokens, entry.top_p) == ("gpu.example.org", 65536, 0.9)
    assert registry.change("minimax", {"top_p": ""}).top_p is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"remote_port": "70000"}, "remote_port"),
        ({"kind": "magic"}, "kind"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "http://x", "ssh_host": "y"}, "base_url and ssh_host"),
        ({"ssh_host": "host; rm -rf /"}, "ssh_host"),
        ({"endpoint": "no/slash"}, "endpoint"),
        ({"timeout_seconds": "0"}, "timeout_seconds"),
        ({"video_transport": "pigeon"}, "video_transport"),
        ({"fallback": "minimax"}, "fallback"),
        ({"fallback": "nobody"}, "fallback"),
        ({"max_tokens": "40000"}, "max_tokens"),
        ({"password": "x"}, "password"),
        ({"supports_video": "perhaps"}, "supports_video"),
        ({"fallback": "parakeet"}, "fallback"),
        ({"key": "other"}, "key"),
        ({"ssh_port": "2222"}, "ssh_port"),
        ({"ssh_host": "gate..example.org"}, "ssh_host"),
        ({"remote_host": "-"}, "remote_host"),
        ({"base_url": "http://[bad"}, "base_url"),
        ({"base_url": "http://"}, "base_url"),
        ({"base_url": "http://host:99999"}, "base_url"),
        ({"base_url": "http://host/?key=x"}, "base_url"),
        ({"base_url": "http://user:secret@host"}, "api_key_variable"),
    ],
)
def test_a_bad_edit_names_the_field_and_changes_nothing(
    registry: ModelRegistry, fields: dict[str, str], named: str
) -> None:
    before = registry.entries()
    with pytest.raises(InvalidConfig, match=named):
        registry.change("minimax", fields)
    assert registry.entries() == before


def test_a_model_of_ones_own_is_added_and_removed(registry: ModelRegistry) -> None:
    registry.change("llama", {"kind": "chat", "base_url": "http://127.0.0.1:8080/", "fallback": "builtin_moments"})
    assert registry.get("llama").base_url == "http://127.0.0.1:8080"
    assert "llama" in [entry.key for entry in registry.entries()]
    registry.remove("llama")
    with pytest.raises(NotFound, match="llama"):
        registry.get("llama")
    with pytest.raises(NotFound, match="llama"):
        registry.remove("llama")


def test_a_default_that_is_removed_is_as_it_was(registry: ModelRegistry) -> None:
    registry.change("parakeet", {"ssh_host": "gpu.example.org"})
    registry.remove("parakeet")
    assert registry.get("parakeet") == DEFAULTS["parakeet"]


@pytest.mark.parametrize("key", ["builtin_speech", "builtin_mine", "Capital", "a b", "", "x" * 65, "../up"])
def test_keys_that_can_not_be_are_refused(registry: ModelRegistry, key: str) -> None:
    with pytest.raises(InvalidConfig):
        registry.change(key, {"kind": "chat"})


def test_a_hash_that_was_broken_by_hand_hides_nothing_else(
    registry: ModelRegistry, redis: "redis_client.Redis"
) -> None:
    registry.seed()
    redis.hset("model:config:qwen3_vl_fp8", "remote_port", "many")
    assert {entry.key for entry in registry.entries()} == set(DEFAULTS) - {"qwen3_vl_fp8"}
    assert "remote_port" in registry.faults()["qwen3_vl_fp8"]
    assert registry.default("generation") == "qwen3_vl_fp8"  # whose use says what is wrong with it
    with pytest.raises(InvalidConfig, match="remote_port"):
        registry.get("qwen3_vl_fp8")
    assert registry.change("qwen3_vl_fp8", {"remote_port": 8010}).remote_port == 8010
    assert registry.faults() == {}


def test_a_model_that_another_falls_back_to_is_not_removed(registry: ModelRegistry) -> None:
    registry.change("mine", {"kind": "chat", "base_url": "http://127.0.0.1:1"})
    registry.change("minimax", {"fallback": "mine"})
    with pytest.raises(InvalidConfig, match="minimax"):
        registry.remove("mine")
    with pytest.raises(InvalidConfig, match="builtin_speech"):
        registry.remove("builtin_speech")


def test_a_verdict_on_words_does_not_stand_for_eyes(registry: ModelRegistry) -> None:
    """A text-only check asks nothing about a clock; the entry that watches video is another one."""
    entry = registry.change("qwen3_omni", {"ssh_host": "gpu.example.org"})
    registry.record_verdict("qwen3_omni", replace(VERDICT, fingerprint=entry.fingerprint))
    assert registry.verdict(registry.change("qwen3_omni", {"supports_video": "true"})) is None


def test_the_settings_say_what_entries_leave_open(redis: "redis_client.Redis") -> None:
    settings = Settings.model_validate(
        {"VIDEOMOMENTS_SSH_HOST": "gate", "VIDEOMOMENTS_SSH_PORT": 2222, "VIDEOMOMENTS_SSH_USER": "video"}
    )
    registry = ModelRegistry(redis, settings)
    entry = registry.get("parakeet")
    assert (entry.ssh_host, entry.ssh_port, entry.ssh_user) == ("gate", 2222, "video")
    own = registry.change("parakeet", {"ssh_host": "other"})  # its port is the usual one
    assert (own.ssh_host, own.ssh_port, own.ssh_user) == ("other", 22, "video")
    assert registry.change("parakeet", {"ssh_host": "", "base_url": "http://asr:8006"}).ssh_host == ""


def test_the_preferred_model_is_the_default_once_a_host_is_configured(registry: ModelRegistry) -> None:
    assert registry.default("generation") == registry.default("refinement") == "builtin_moments"
    assert registry.default("speech") == "builtin_speech"
    registry.change("qwen3_vl_fp8", {"ssh_host": "gpu.example.org"})
    assert registry.default("generation") == registry.default("refinement") == "qwen3_vl_fp8"
    assert registry.default("speech") == "builtin_speech"


def test_a_verdict_belongs_to_the_entry_as_it_was_checked(registry: ModelRegistry) -> None:
    entry = registry.change("parakeet", {"ssh_host": "gpu.example.org"})
    assert registry.verdict(entry) is None
    registry.record_verdict("parakeet", replace(VERDICT, fingerprint=entry.fingerprint))
    assert registry.verdict(entry) == replace(VERDICT, fingerprint=entry.fingerprint)
    elsewhere = registry.change("parakeet", {"remote_port": 9000})
    assert registry.verdict(elsewhere) is None
    assert registry.verdict(registry.change("parakeet", {"remote_port": 8006, "timeout_seconds": 5})) is not None


def test_two_who_edit_at_once_both_hold(registry: ModelRegistry, redis: "redis_client.Redis") -> None:
    """The second edit comes between the first one's reading and writing."""
    other = ModelRegistry(redis, get_settings())
    seen = []

    class Late(UserDict[str, str]):
        def keys(self):
            if not seen:
                seen.append(1)
                other.change("minimax", {"model_name": "other"})
            return super().keys()

    registry.seed()
    registry.change("minimax", Late(timeout_seconds="77"))
    entry = registry.get("minimax")
    assert seen and (entry.model_name, entry.timeout_seconds) == ("other", 77.0)


def test_without_redis_the_codes_own_models_can_be_read() -> None:
    registry = ModelRegistry(None, Settings.model_validate({}))
    assert registry.get("minimax").key == "minimax"
    with pytest.raises(NotFound):
        registry.get("nobody")


def test_an_entry_holds_no_secret() -> None:
    assert not {name for name in ModelEntry.model_fields if "password" in name or name.endswith("_key")}
