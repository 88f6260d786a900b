"""The real graph's shape with bodies that do nothing: same keys, deps, pools, policies, partitions and checks.

`python -m benchmarks.noop_graph PARTITION` is one run in one process, as a run worker does it; it prints its own times
as JSON.
"""

import json
import sys
import time
from typing import Any

import dagster as dg

from videomoments_dagster.definitions import build_definitions
from videomoments_dagster.defs.partitions import VIDEOS, videos
from videomoments_dagster.defs.policies import TRANSIENT


def noop_definitions() -> dg.Definitions:
    graph = build_definitions().resolve_asset_graph()
    assets, checks = [], []
    for key in sorted(graph.materializable_asset_keys, key=str):
        node = graph.get(key)
        pool = next(iter(node.pools or ()), None)
        assets.append(_asset(key, sorted(node.parent_keys, key=str), pool))
        checks += [
            _check(check.name, key, graph.get_check_spec(check).blocking) for check in sorted(node.check_keys, key=str)
        ]
    job = dg.define_asset_job("noop", selection=dg.AssetSelection.all())
    return dg.Definitions(assets=assets, asset_checks=checks, jobs=[job], executor=dg.in_process_executor)


def _asset(key: dg.AssetKey, deps: list[dg.AssetKey], pool: str | None) -> dg.AssetsDefinition:
    @dg.asset(key=key, deps=deps, pool=pool, partitions_def=videos, retry_policy=TRANSIENT)
    def noop() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(metadata={"count": 1})

    return noop


def _check(name: str, asset: dg.AssetKey, blocking: bool) -> dg.AssetChecksDefinition:
    @dg.asset_check(name=name, asset=asset, blocking=blocking, partitions_def=videos)
    def noop() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    return noop


def main(partition: str) -> None:
    started = time.perf_counter()
    job = noop_definitions().resolve_job_def("noop")
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(VIDEOS, [partition])
        ready = time.perf_counter()
        result = job.execute_in_process(instance=instance, partition_key=partition)
        ended = time.perf_counter()
    steps = len([event for event in result.all_events if event.is_step_success])
    print(json.dumps({"run": ended - ready, "load": ready - started, "steps": steps}))


if __name__ == "__main__":
    main(sys.argv[1])
