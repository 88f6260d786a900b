"""What the platform does for itself by the clock: the job of each schedule works, where nothing is yet too."""

import dagster as dg

from videomoments_dagster.definitions import build_definitions
from videomoments_dagster.defs import schedules
from videomoments_dagster.defs.resources import PlatformResource


def test_every_schedule_is_on_and_its_job_succeeds_where_nothing_is_yet(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    """But for the one that needs Dagster's own tables: see test_event_retention.py."""
    definitions = build_definitions(platform=platform)
    for schedule in schedules.SCHEDULES:
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        if schedule.name != "event_retention_schedule":
            result = definitions.resolve_job_def(schedule.job_name).execute_in_process(instance=instance)
            checks = result.get_asset_check_evaluations()
            assert checks and all(check.passed for check in checks), schedule.name
