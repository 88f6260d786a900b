"""The pooled storage touches Dagster's private attributes: these tests fail loudly when Dagster changes under it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
import sqlalchemy.event
from psycopg2 import connect

from videomoments_dagster.defs.instance_storage import _QUESTIONS, MAX_OVERFLOW, POOL_SIZE
from videomoments_dagster.defs.policies import pool_limits
from videomoments_dagster.defs.startup import main
from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.settings import get_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def instance(empty_database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance of the repository's own dagster.yaml."""
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.setenv("DAGSTER_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("VIDEOMOMENTS_MAX_CONCURRENT_RUNS", "3")
    get_settings.cache_clear()
    with dg.DagsterInstance.get() as instance:
        yield instance
        instance.run_storage._engine.dispose()  # pyright: ignore[reportAttributeAccessIssue]


def _connections(url: str) -> int:
    """How often a client has connected to the database so far, ourselves included."""
    with connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        [row] = cursor.fetchall()
        return int(row[0])


def test_the_repositorys_dagster_yaml_gives_one_pool_to_the_three_storages(instance: dg.DagsterInstance) -> None:
    storages: list[Any] = [instance.run_storage, instance.event_log_storage, instance.schedule_storage]
    engine = storages[0]._engine
    assert all(storage._engine is engine for storage in storages)
    assert isinstance(engine.pool, sqlalchemy.pool.QueuePool)
    assert (engine.pool.size(), engine.pool._max_overflow) == (POOL_SIZE, MAX_OVERFLOW)
    assert engine.url.drivername == "postgresql+psycopg2"


def test_a_run_reuses_its_connections(instance: dg.DagsterInstance, empty_database_url: str) -> None:
    """With Dagster's own NullPool the same run opens more than a hundred."""

    @dg.asset
    def one() -> None: ...

    @dg.asset(deps=[one])
    def two() -> None: ...

    before = _connections(empty_database_url)
    assert dg.materialize([one, two], instance=instance).success
    instance.run_storage._engine.dispose()  # pyright: ignore[reportAttributeAccessIssue]  # PostgreSQL counts when a session ends
    assert _connections(empty_database_url) - before <= POOL_SIZE + 8


def test_what_dagster_asks_of_its_own_tables_it_asks_once(instance: dg.DagsterInstance) -> None:
    """Each of its questions is remembered once it was answered with yes; none has another name by now."""
    storages: list[Any] = [instance.run_storage, instance.event_log_storage, instance.schedule_storage]
    assert [name for name in _QUESTIONS if not any(hasattr(storage, name) for storage in storages)] == []
    asked: list[str] = []
    sqlalchemy.event.listen(storages[0]._engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    counts = []
    for _ in range(2):
        asked.clear()
        assert instance.get_instigator_state("origin", "selector") is None
        assert storages[2].has_built_index("no migration") is False
        counts.append(len(asked))
    assert counts[0] > counts[1] == 2, "what is not there may come"


def test_more_threads_than_connections_all_get_their_answer(instance: dg.DagsterInstance) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(instance.get_runs_count())) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0] * 40


def test_connections_that_the_server_cut_are_replaced(instance: dg.DagsterInstance, empty_database_url: str) -> None:
    assert instance.get_runs_count() == 0
    with connect(empty_database_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert instance.get_runs_count() == 0


def test_start_up_sets_queue_and_pools_from_the_settings_and_can_be_repeated(instance: dg.DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue and queue.max_concurrent_runs == 3
    limits: dict[str, int] = {}
    for _ in range(2):
        main()
        limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
        assert limits == pool_limits(get_settings())
    assert limits == {
        "audio_extraction": 2, "transcription": 2, "moment_generation": 2, "clip_extraction": 4, "moment_refinement": 1,
    }  # fmt: skip


def test_pools_take_their_slots_from_the_settings_or_say_which_is_wrong(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_up(limits: str) -> dict[str, int]:
        monkeypatch.setenv("VIDEOMOMENTS_POOL_LIMITS", limits)
        get_settings.cache_clear()
        main()
        return {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}

    assert start_up('{"transcription": 8}')["transcription"] == 8
    with pytest.raises(InvalidConfig, match="transcribing can't be set"):
        start_up('{"transcribing": 8}')
    with pytest.raises(InvalidConfig, match="VIDEOMOMENTS_POOL_LIMITS"):
        start_up("transcription=8")
    assert start_up("")["transcription"] == 2
