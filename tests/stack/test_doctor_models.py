"""What `videomoments doctor` says of the remote models that are configured."""

from pathlib import Path

import pytest
import redis as redis_client

from videomoments_dagster.models.registry import ModelRegistry, Verdict
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.health import examine


def test_each_configured_model_says_what_this_host_lacks_for_it(
    home: Path, redis: "redis_client.Redis", redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("VIDEOMOMENTS_SSH_KNOWN_HOSTS", str(home / "known_hosts"))
    get_settings.cache_clear()
    registry = ModelRegistry(redis, get_settings())

    def models() -> dict[str, str]:
        return {f.subject: f"{f.state}: {f.found} {f.hint}" for f in examine(get_settings()) if "Model" in f.subject}

    assert models()["Models"].startswith("ok: the builtin ones")
    entry = registry.change("parakeet", {"ssh_host": "gate.example.org", "ssh_key_file": str(home / "key")})
    assert "ssh-keyscan gate.example.org" in models()["Model parakeet"]
    (home / "known_hosts").touch()
    assert models()["Model parakeet"].startswith("missing: its key file")
    (home / "key").touch()
    assert "not checked" in models()["Model parakeet"]
    verdict = Verdict(entry.fingerprint, False, "Times drift by 2.36 s an hour.", 0.0, 2.36, 0.1, "2026-01-01T00:00:00")
    registry.record_verdict("parakeet", verdict)
    assert models()["Model parakeet"].startswith("warning: Times drift by 2.36 s an hour.")
