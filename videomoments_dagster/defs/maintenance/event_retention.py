"""The `event_retention` asset: what Dagster wrote down of every run's every step, and the log of what webhooks were
told, do not grow for ever."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from db.queries import dagster_events, webhooks
from videomoments_dagster.defs.resources import PlatformResource

DELIVERY_DAYS = 30
_LAST_ID = "last_id"
_BATCH = 5_000


@dg.asset(group_name="maintenance", kinds={"postgres"}, owners=["team:platform"])
def event_retention(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Details of runs that ended more than VIDEOMOMENTS_EVENT_DAYS ago, gone from Dagster's event log.
    Materializations, checks, failures and the runs themselves stay. It goes on where it stopped the last time. And
    deliveries to webhooks that were over 30 days ago."""
    database, before = platform.dagster_database, datetime.now(UTC) - timedelta(days=platform.settings.event_days)
    events = text_bytes = 0
    last_id = _where_it_stopped(context)
    for pruned in dagster_events.prune(database, before, last_id):
        events, text_bytes, last_id = events + pruned.events, text_bytes + pruned.text_bytes, pruned.last_id
    size_bytes, left = dagster_events.size(database)
    return dg.MaterializeResult(
        metadata={
            "deleted_events": events,
            "deleted_bytes": text_bytes,
            "events_left": left,
            "deleted_deliveries": _prune_deliveries(platform),
            "size_bytes": size_bytes,
            "before": dg.MetadataValue.timestamp(before),
            _LAST_ID: last_id,
        }
    )


def _prune_deliveries(platform: PlatformResource) -> int:
    before, removed = datetime.now(UTC) - timedelta(days=DELIVERY_DAYS), 0
    while True:
        with platform.database.session() as session:
            batch = webhooks.prune(session, before, _BATCH)
        removed += batch
        if batch < _BATCH:
            return removed


def _where_it_stopped(context: dg.AssetExecutionContext) -> int:
    latest = context.instance.get_latest_materialization_event(dg.AssetKey("event_retention"))
    known = latest.asset_materialization.metadata.get(_LAST_ID) if latest and latest.asset_materialization else None
    return (known.value or 0) if isinstance(known, dg.IntMetadataValue) else 0
