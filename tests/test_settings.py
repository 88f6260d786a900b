"""Settings: their names, their defaults."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from videomoments_dagster.errors import InvalidConfig, ServiceUnavailable
from videomoments_dagster.settings import Settings, get_settings, with_driver


def test_a_users_home_is_not_the_platforms_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Field names were once read from the environment too: HOME became the data directory, and held the database."""
    monkeypatch.delenv("VIDEOMOMENTS_HOME")
    monkeypatch.setenv("HOME", "/somewhere/else")
    monkeypatch.chdir(home)
    get_settings.cache_clear()
    assert get_settings().home == home / ".videomoments"


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        ("postgresql://u:p@h:1/d?sslmode=require", "postgresql+psycopg2://u:p@h:1/d?sslmode=require"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        ("mysql://h/d", "mysql://h/d"),
    ],
)
def test_the_driver_is_written_out(url: str, written: str) -> None:
    assert with_driver(url) == written


def test_what_the_stack_wrote_down_is_the_default(home: Path) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        get_settings().database_url  # noqa: B018  # the access raises
    assert "videomoments up" in caught.value.hint
    get_settings().connections_file.write_text(
        json.dumps({"database_url": "postgresql+psycopg2://h/v", "redis_url": "redis://r", "api_url": "http://a:1"})
    )
    settings = get_settings()
    assert settings.database_url == "postgresql+psycopg2://h/v"
    assert settings.dagster_database_url == "postgresql+psycopg2://h/v_dagster"
    assert (settings.redis_url, settings.public_url) == ("redis://r", "http://a:1")


def test_what_is_configured_wins_and_empty_means_unset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://u:secret@h/v?sslmode=require")
    monkeypatch.setenv("REDIS_URL", "redis://:secret@r")
    monkeypatch.setenv("GCS_BUCKET_NAME", "")
    get_settings.cache_clear()
    settings = get_settings()
    assert settings.dagster_database_url == "postgresql+psycopg2://u:secret@h/v_dagster?sslmode=require"
    assert settings.gcs_bucket_name is None
    assert "secret" not in repr(settings)


def _key(home: str) -> bytes:
    return Settings(VIDEOMOMENTS_HOME=Path(home)).signing_key  # pyright: ignore[reportCallIssue]


def test_processes_that_race_for_the_signing_key_get_the_same_one(home: Path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        keys = set(pool.map(_key, [str(home)] * 8))
    assert len(keys) == 1
    assert (home / "signing.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.iterdir()] == ["signing.key"]


def test_a_wrong_variable_is_named_without_its_value(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND_PORT", "sevenoh5")
    get_settings.cache_clear()
    with pytest.raises(InvalidConfig) as caught:
        get_settings()
    assert "BACKEND_PORT" in caught.value.message and "sevenoh5" not in caught.value.message


def test_clients_never_ask_a_stranger_on_the_default_port(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceUnavailable):
        get_settings().api_url  # noqa: B018  # the access raises
    monkeypatch.setenv("VIDEOMOMENTS_PUBLIC_URL", "https://moments.example/")
    get_settings.cache_clear()
    assert get_settings().api_url == get_settings().public_url == "https://moments.example"
