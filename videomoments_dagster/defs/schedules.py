"""When the platform looks after itself: the assets of the group "maintenance", each in a job of its own, by the clock.

Their runs take a place among those of videos, for seconds. One that was missed while the platform was down is made up
for once, at the next tick.
"""

import dagster as dg

from videomoments_dagster.defs.maintenance import consistency, event_retention, failures, temp_files

ASSETS = [temp_files.temp_files, failures.failures, consistency.consistency, event_retention.event_retention]


def _upkeep(asset: dg.AssetsDefinition, cron: str, description: str) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    name = asset.key.to_user_string()
    job: dg.JobDefinition = dg.define_asset_job(  # pyright: ignore[reportAssignmentType]
        f"{name}_upkeep",
        selection=dg.AssetSelection.assets(asset),
        description=description,
        tags={"dagster/max_runtime": str(2 * 3600)},
    )
    schedule = dg.ScheduleDefinition(
        name=f"{name}_schedule", job=job, cron_schedule=cron, default_status=dg.DefaultScheduleStatus.RUNNING
    )
    return job, schedule


_ALL = [
    _upkeep(temp_files.temp_files, "15 */6 * * *", "Temporary files that nobody works with are removed."),
    _upkeep(failures.failures, "5 * * * *", "Which videos failed, and what to do about each."),
    _upkeep(consistency.consistency, "30 3 * * *", "Whether rows, objects, partitions and locks agree."),
    _upkeep(event_retention.event_retention, "0 4 * * *", "Dagster's event log is kept small."),
]
JOBS = [job for job, _ in _ALL]
SCHEDULES = [schedule for _, schedule in _ALL]
