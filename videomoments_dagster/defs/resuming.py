"""What the last run of a video left undone, so that a retry does only that. Dagster's own events say it: a run plans
every asset when it is made, and an asset is done when it was materialized after that.
"""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg
from dagster._core.event_api import AssetRecordsFilter, PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from db.queries import videos as video_queries
from videomoments_dagster.defs import checks
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.stages import STAGES_OF, STAGES_OF_ASSET, PipelineType


def left_undone(
    instance: dg.DagsterInstance,
    platform: PlatformResource,
    video: str,
    kind: PipelineType,
    selection: Sequence[dg.AssetKey] | None,
) -> list[dg.AssetKey] | None:
    """The assets of a pipeline of `kind` (of `selection`, where not all) that the video's last run did not finish; all
    of them when it finished everything, or was never there. What was made before the video's row was is of another
    video, deleted since, that had the same identifier."""
    assets = [key.to_user_string() for key in selection] if selection is not None else assets_of(kind)
    with platform.database.read() as session:
        row = video_queries.get(session, video)
    if row is None:
        return list(selection) if selection is not None else None
    rejected = _rejected_by_check(instance, video)
    undone = [asset for asset in assets if asset in rejected or not _is_done(instance, asset, video, row.created_at)]
    return [dg.AssetKey(asset) for asset in undone] or (list(selection) if selection is not None else None)


def assets_of(kind: PipelineType) -> list[str]:
    """The assets of a whole pipeline of `kind`, in the order of the graph."""
    wanted = set(STAGES_OF[kind])
    return [asset for asset, stages in STAGES_OF_ASSET.items() if wanted >= set(stages)]


def _is_done(instance: dg.DagsterInstance, asset: str, video: str, since: datetime) -> bool:
    key = dg.AssetKey(asset)
    made = instance.fetch_materializations(AssetRecordsFilter(key, asset_partitions=[video]), limit=1).records
    if not made or made[0].timestamp < since.timestamp():
        return False
    planned = instance.event_log_storage.get_latest_planned_materialization_info(key, video)
    return planned is None or made[0].storage_id > planned.storage_id


def _rejected_by_check(instance: dg.DagsterInstance, video: str) -> set[str]:
    """Assets whose blocking check did not pass: what they made is there, but no good."""
    blocking = [spec.key for definition in checks.ALL for spec in definition.check_specs if spec.blocking]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        blocking, partition_filter=PartitionKeyFilter(key=video)
    )
    return {
        key.asset_key.to_user_string()
        for key, record in latest.items()
        if record.status is AssetCheckExecutionRecordStatus.FAILED
    }
