"""The prompt daemon changes one constant of Dagster's and one type: these tests fail when Dagster changes under it."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon import sensor
from dagster._daemon.controller import create_daemon_of_type
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from videomoments_dagster.defs import daemon

ROOT = Path(__file__).parents[2]


def test_the_sensor_loop_still_waits_by_the_constant_that_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sensor.MIN_INTERVAL_LOOP_TIME > daemon.SENSOR_LOOP_SECONDS
    assert "MIN_INTERVAL_LOOP_TIME" in sensor.execute_sensor_iteration_loop.__code__.co_names
    monkeypatch.setattr(sensor, "MIN_INTERVAL_LOOP_TIME", sensor.MIN_INTERVAL_LOOP_TIME)
    monkeypatch.setattr("sys.argv", ["daemon", "--help"])
    with pytest.raises(SystemExit, match="0"):
        daemon.main()
    assert sensor.MIN_INTERVAL_LOOP_TIME == daemon.SENSOR_LOOP_SECONDS


def test_the_queue_is_looked_at_twice_a_second(
    empty_database_url: str, redis_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("DAGSTER_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("VIDEOMOMENTS_MAX_CONCURRENT_RUNS", "3")
    with dg.DagsterInstance.get() as instance:
        queue = create_daemon_of_type("QUEUED_RUN_COORDINATOR", instance)
        assert isinstance(queue, QueuedRunCoordinatorDaemon)
        assert queue.interval_seconds == daemon.DEQUEUE_SECONDS
        instance.run_storage._engine.dispose()  # pyright: ignore[reportAttributeAccessIssue]
