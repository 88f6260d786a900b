"""Dagster's own event log, which nothing in Dagster ever shortens: what only tells how a run of long ago went, goes.

What says that an asset was made, checked or planned stays, and why a run failed; runs and their tags are not touched.
(Dagster's guide to database tuning describes the same; its `delete_run` would take materializations with it.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, text

from db.session import Database

KEPT_TYPES = (
    "ASSET_MATERIALIZATION",
    "ASSET_MATERIALIZATION_PLANNED",
    "ASSET_OBSERVATION",
    "ASSET_FAILED_TO_MATERIALIZE",
    "FRESHNESS_STATE_CHANGE",
    "ASSET_CHECK_EVALUATION",
    "ASSET_CHECK_EVALUATION_PLANNED",
    "STEP_FAILURE",
    "PIPELINE_SUCCESS",
    "PIPELINE_FAILURE",
    "PIPELINE_CANCELED",
)
"""Run status sensors read the last three by their storage ids; the others are assets', and what people look for."""
_NOT_ENDED = ("NOT_STARTED", "MANAGED", "QUEUED", "STARTING", "STARTED", "CANCELING")
_BATCH = 10_000

_PRUNE = text(
    """
    WITH batch AS MATERIALIZED (
        SELECT id, run_id, dagster_event_type, timestamp FROM event_logs WHERE id > :after ORDER BY id LIMIT :size
    ), pruned AS (
        DELETE FROM event_logs USING batch
        WHERE event_logs.id = batch.id AND batch.timestamp < :before
          AND (batch.dagster_event_type IS NULL OR batch.dagster_event_type NOT IN :kept)
          AND batch.run_id NOT IN (SELECT run_id FROM runs WHERE status IN :not_ended)
        RETURNING length(event_logs.event)
    )
    SELECT (SELECT count(*) FROM batch), (SELECT max(id) FROM batch WHERE timestamp < :before),
           (SELECT bool_or(timestamp >= :before) FROM batch),
           (SELECT count(*) FROM pruned), (SELECT coalesce(sum(length), 0) FROM pruned)
    """
).bindparams(bindparam("kept", expanding=True), bindparam("not_ended", expanding=True))
_SIZE = text("SELECT pg_total_relation_size('event_logs'), reltuples FROM pg_class WHERE relname = 'event_logs'")


@dataclass(frozen=True, slots=True)
class Pruned:
    """`last_id`: everything up to it has been looked at. `text_bytes` are those of the events' JSON, uncompressed."""

    events: int
    text_bytes: int
    last_id: int


def prune(dagster: Database, before: datetime, after_id: int = 0) -> Iterator[Pruned]:
    """Delete the details of runs that have ended, of events before `before` and after the storage id `after_id`, in
    transactions of 10,000 events; yields what each did. Raises ServiceUnavailable."""
    moment, more = before.astimezone(UTC).replace(tzinfo=None), True
    while more:
        with dagster.session() as session:
            looked_at, last_id, reached, events, text_bytes = session.execute(
                _PRUNE,
                {"after": after_id, "size": _BATCH, "before": moment, "kept": KEPT_TYPES, "not_ended": _NOT_ENDED},
            ).one()
        after_id = last_id or after_id
        more = looked_at == _BATCH and not reached
        yield Pruned(events, int(text_bytes), after_id)


def size(dagster: Database) -> tuple[int, int]:
    """The event log's bytes on disk, with its indexes, and about how many events it has. Raises ServiceUnavailable."""
    with dagster.read() as session:
        size_bytes, events = session.execute(_SIZE).one()
    return int(size_bytes), max(0, int(events))
