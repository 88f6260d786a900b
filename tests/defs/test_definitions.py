"""The graph that Dagster loads. `dagster definitions validate` passes on an empty graph, so names are asserted here."""

import json
import subprocess
import sys
from pathlib import Path

from tests.defs.graph import describe
from videomoments_dagster.definitions import build_definitions
from videomoments_dagster.defs.logs import redact_errors

SNAPSHOT = Path(__file__).with_name("graph.json")
HEAVY = {"av", "numpy", "pandas", "google.cloud.storage", "pocketsphinx", "paramiko", "fastapi", "dagster_gcp"}


def test_the_graph_is_the_one_that_was_reviewed() -> None:
    """A change of keys, deps, pools or checks shows up as a diff of graph.json (see graph.py for how to renew it)."""
    assert describe(build_definitions()) == json.loads(SNAPSHOT.read_text())


def test_the_code_server_finds_every_asset_job_and_sensor() -> None:
    repository = build_definitions().get_repository_def()
    keys = {key.to_user_string() for key in repository.asset_graph.materializable_asset_keys}
    upkeep = {"temp_files", "failures", "consistency", "event_retention"}
    assert keys - upkeep == {
        "video", "audio", "transcript", "moments", "clips", "refined_moments", "scores", "thumbnails",
    }  # fmt: skip
    assert {schedule.name for schedule in repository.schedule_defs} == {f"{asset}_schedule" for asset in upkeep}
    assert {"video_pipeline", "moments_pipeline", "clips_pipeline", "video_checks"} <= set(repository.job_names)
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "ingest", "cancel", "reconcile", "run_succeeded", "run_failed", "run_cancelled", "webhooks",
    }  # fmt: skip


def test_loading_the_definitions_imports_nothing_heavy_and_asks_for_no_service() -> None:
    """And from then on, whoever loads them, Dagster keeps no secret in errors.

    The code server, each run and each sensor process pay for every import; DATABASE_URL may be unset here."""
    code = (
        "import sys, dagster; before = set(sys.modules); import videomoments_dagster.definitions;"
        f"print(sorted({HEAVY!r} & (set(sys.modules) - before)));"
        "print(dagster._utils.error.SerializableErrorInfo.from_traceback.__func__.__module__)"
    )
    environment = {"PATH": "/usr/bin:/bin", "VIDEOMOMENTS_HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=SNAPSHOT.parents[2],
    )
    assert (done.returncode, done.stdout.split()) == (0, ["[]", redact_errors.__module__]), done.stderr[-2000:]
