"""The asset graph as plain JSON, for the snapshot. `python -m tests.defs.graph > tests/defs/graph.json` renews it."""

import json
from typing import Any

import dagster as dg

from videomoments_dagster.definitions import build_definitions


def describe(definitions: dg.Definitions) -> dict[str, Any]:
    """Keys, dependencies, pools, checks, jobs and sensors: what a change of must show in review."""
    graph, repository = definitions.resolve_asset_graph(), definitions.get_repository_def()
    assets: dict[str, Any] = {}
    for key in sorted(graph.materializable_asset_keys, key=str):
        node = graph.get(key)
        assets[key.to_user_string()] = {
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "group": node.group_name,
            "kinds": sorted(node.kinds or ()),
            "owners": sorted(node.owners),
            "pools": sorted(node.pools or ()),
            "partitions": getattr(node.partitions_def, "name", None),
            "code_version": node.code_version,
            "described": bool(node.description),
            "checks": {
                check.name: {
                    "blocking": graph.get_check_spec(check).blocking,
                    "partitioned": graph.get_check_spec(check).partitions_def is not None,
                }
                for check in sorted(node.check_keys, key=str)
            },
        }
    return {
        "assets": assets,
        "jobs": sorted(job.name for job in definitions.jobs or ()),
        "sensors": {sensor.name: sensor.default_status.value for sensor in definitions.sensors or ()},
        "schedules": {schedule.name: schedule.cron_schedule for schedule in repository.schedule_defs},
        "executor": getattr(definitions.executor, "name", None),
    }


if __name__ == "__main__":
    print(json.dumps(describe(build_definitions()), indent=2))  # noqa: T201  # this is its output
