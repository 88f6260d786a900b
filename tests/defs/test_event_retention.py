"""Dagster's event log is shortened, and everything that people and sensors ask of it stays true."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from psycopg2 import connect
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import WebhookDelivery
from db.queries import webhooks
from tests import factories
from videomoments_dagster.defs.maintenance.event_retention import event_retention
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.settings import get_settings

ROOT = Path(__file__).parents[2]
PARTS = dg.DynamicPartitionsDefinition(name="parts")


@dg.asset(partitions_def=PARTS)
def made(context: dg.AssetExecutionContext) -> None:
    context.log.info("A word of the asset's own.")


@dg.asset_check(asset=made)
def good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset(partitions_def=PARTS, deps=[made])
def broken() -> None:
    raise dg.Failure("It broke.")


@pytest.fixture
def instance(
    empty_database_url: str, fresh_database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.setenv("DAGSTER_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("DATABASE_URL", fresh_database_url)
    monkeypatch.setenv("VIDEOMOMENTS_MAX_CONCURRENT_RUNS", "3")
    get_settings.cache_clear()
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("parts", ["old", "new"])
        yield instance
        instance.run_storage._engine.dispose()  # pyright: ignore[reportAttributeAccessIssue]
    PlatformResource().dagster_database.dispose()
    PlatformResource().database.dispose()


def _sql(url: str, statement: str, *values: object) -> list[Any]:
    with connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def _age(session: Session, request_id: str, days: int) -> None:
    """Its delivery was heard so many days ago."""
    [delivery] = session.scalars(select(WebhookDelivery).where(WebhookDelivery.request_id == request_id))
    delivery.created_at = delivery.delivered_at = datetime.now(UTC) - timedelta(days=days)
    delivery.next_attempt_at = None


def _run(instance: dg.DagsterInstance, partition: str) -> str:
    return dg.materialize([made, broken, good], instance=instance, partition_key=partition, raise_on_error=False).run_id


def _prune(instance: dg.DagsterInstance) -> dict[str, Any]:
    result = dg.materialize([event_retention], instance=instance, resources={"platform": PlatformResource()})
    [materialization] = result.asset_materializations_for_node("event_retention")
    return {key: value.value for key, value in materialization.metadata.items()}


def test_old_details_go_and_what_was_made_checked_and_failed_stays(
    instance: dg.DagsterInstance, empty_database_url: str
) -> None:
    old, at_work = _run(instance, "old"), _run(instance, "old")
    new = _run(instance, "new")
    back = "UPDATE event_logs SET timestamp = timestamp - interval '20 days' WHERE run_id IN %s"
    _sql(empty_database_url, back, (old, at_work))
    _sql(empty_database_url, "UPDATE runs SET status = 'STARTED' WHERE run_id = %s", at_work)
    counts = "SELECT run_id, count(*) FROM event_logs GROUP BY run_id"
    before = dict(_sql(empty_database_url, counts))
    with PlatformResource().database.session() as session:
        for name, days in (("heard long ago", 31), ("heard lately", 29)):
            request = factories.request(session, "talk", request_id=name, webhook_url="https://example.org/")
            webhooks.record(session, request.request_id, "completed", lambda _: {})
            _age(session, name, days)
    told = _prune(instance)
    assert told["deleted_deliveries"] == 1
    after = dict(_sql(empty_database_url, counts))
    assert told["deleted_events"] == before[old] - after[old] > before[old] / 2
    assert told["deleted_bytes"] > 0 and told["size_bytes"] > 0
    assert (after[at_work], after[new]) == (before[at_work], before[new])
    for partition in ("old", "new"):
        assert instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=made.key, asset_partitions=[partition]), limit=1
        ).records
    assert instance.get_materialized_partitions(made.key) == {"old", "new"}
    [failure] = instance.get_records_for_run(old, of_type=dg.DagsterEventType.STEP_FAILURE).records
    assert failure.event_log_entry.dagster_event and failure.event_log_entry.dagster_event.step_key == "broken"
    run = instance.get_run_by_id(old)
    assert run and run.status is dg.DagsterRunStatus.FAILURE
    [check] = instance.event_log_storage.get_asset_check_execution_history(next(iter(good.check_keys)), limit=1)
    assert check.event

    told = _prune(instance)
    assert told["deleted_events"] == 0, "what it looked at once is not looked at again"
    assert dict(_sql(empty_database_url, counts))[old] == after[old]
