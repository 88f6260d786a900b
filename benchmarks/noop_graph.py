"""The platform's definitions with bodies that do nothing: same keys, deps, pools, policies, partitions, checks, jobs
and sensors. `dagster api grpc -m benchmarks.noop_graph` serves them in place of the real ones.

`python -m benchmarks.noop_graph PARTITION` is one run in one process that starts for it; it prints its own time
as JSON.
"""

import json
import sys
import time
import warnings
from typing import Any

import dagster as dg

from videomoments_dagster.definitions import build_definitions
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.partitions import VIDEOS, videos
from videomoments_dagster.defs.policies import TRANSIENT

JOB = jobs.full.name
warnings.filterwarnings("ignore", message=".*partitions_def on an AssetCheckSpec")


def noop_definitions() -> dg.Definitions:
    real = build_definitions()
    graph = real.resolve_asset_graph()
    assets, checks = [], []
    for key in sorted(graph.materializable_asset_keys, key=str):
        node = graph.get(key)
        pool = next(iter(node.pools or ()), None)
        assets.append(_asset(key, sorted(node.parent_keys, key=str), pool))
        checks += [
            _check(check.name, key, graph.get_check_spec(check).blocking) for check in sorted(node.check_keys, key=str)
        ]
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=real.jobs,
        sensors=real.sensors,
        resources=real.resources,
        executor=real.executor,
    )


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


defs = noop_definitions()


def main(partition: str) -> None:
    job = defs.resolve_job_def(JOB)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(VIDEOS, [partition])
        ready = time.perf_counter()
        result = job.execute_in_process(instance=instance, partition_key=partition)
        ended = time.perf_counter()
    steps = len([event for event in result.all_events if event.is_step_success])
    print(json.dumps({"run": ended - ready, "steps": steps}))


if __name__ == "__main__":
    main(sys.argv[1])
