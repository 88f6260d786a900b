"""What one run costs on top of its work: a no-op run of the whole graph, and the sample with and without Dagster."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import dagster as dg

from benchmarks.direct import process
from benchmarks.measuring import measured, median, row
from benchmarks.services import ROOT, SAMPLE, services
from tests.defs.pipeline import execute, submit
from tests.web import serving
from videomoments_dagster.defs.resources import PlatformResource

ROUNDS = 3


def main() -> None:
    print(f"\nOverhead of one run (medians of {ROUNDS}; CPU without PostgreSQL and Redis)")
    row("", "wall s", "CPU s", "ratio (wall)")
    with services():
        _noop()
        _sample()


def _noop() -> None:
    import_only, whole, inside, steps = [], [], [], 0
    for n in range(ROUNDS + 1):  # the first makes Dagster's tables and is thrown away
        with measured() as cost:
            subprocess.run([sys.executable, "-c", "import videomoments_dagster.definitions"], check=True, cwd=ROOT)
        import_only.append(cost)
        with measured() as cost:
            command = [sys.executable, "-m", "benchmarks.noop_graph", f"noop-{n}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        whole.append(cost)
        report = json.loads(done.stdout.splitlines()[-1])
        inside.append(report["run"])
        steps = report["steps"]
    start, total, run = median(import_only[1:]), median(whole[1:]), sorted(inside[1:])[ROUNDS // 2]
    row("process start and imports (baseline)", f"{start.wall:.2f}", f"{start.cpu:.2f}", "1.00")
    row(
        f"no-op run, {steps} steps, with its process start",
        f"{total.wall:.2f}",
        f"{total.cpu:.2f}",
        f"{total.wall / start.wall:.2f}",
    )
    row("  of it the run itself", f"{run:.2f}", "", f"{run / start.wall:.2f}")
    row("  a step (assets and checks)", f"{run / steps:.3f}", "", "")


def _sample() -> None:
    platform, bare, graph = PlatformResource(), [], []
    with serving() as web, dg.DagsterInstance.get() as instance:
        url = web.serve_file("/talk.mp4", SAMPLE)
        for n in range(ROUNDS):
            with tempfile.TemporaryDirectory() as work, measured() as cost:
                process(f"direct-{n}", url, Path(work))
            bare.append(cost)
            request_id = submit(platform, f"graph-{n}", url)
            with measured() as cost:
                assert execute(platform, instance, f"graph-{n}", request_id=request_id).success
            graph.append(cost)
    without, with_dagster = median(bare), median(graph)
    row("sample talk, functions only (baseline)", f"{without.wall:.2f}", f"{without.cpu:.2f}", "1.00")
    ratio = with_dagster.wall / without.wall
    row(
        "sample talk, as a run with status and 10 checks",
        f"{with_dagster.wall:.2f}",
        f"{with_dagster.cpu:.2f}",
        f"{ratio:.2f}",
    )
