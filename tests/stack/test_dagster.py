"""The whole platform with Dagster: it loads our graph, its parts come back when killed, and there is never a second."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.stack.platforms import Platform
from videomoments_dagster.stack.process_table import marked

pytestmark = pytest.mark.slow
_ASKED = "{workspaceOrError{... on Workspace{locationEntries{name loadStatus}}} assetNodes{assetKey{path}}}"


def _graph(dagster_url: str) -> tuple[list[str], set[str]]:
    """The code locations that are loaded, and the assets."""
    question = urllib.request.Request(  # our own address
        f"{dagster_url}/graphql", json.dumps({"query": _ASKED}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(question, timeout=30) as answer:
        data = json.load(answer)["data"]
    entries = data["workspaceOrError"]["locationEntries"]
    loaded = [entry["name"] for entry in entries if entry["loadStatus"] == "LOADED"]
    return loaded, {node["assetKey"]["path"][-1] for node in data["assetNodes"]}


def _daemons(platform: Platform) -> int:
    return sum("videomoments_dagster.defs.daemon" in process.cmdline() for process in marked(platform.home))


def test_it_loads_the_graph_survives_kills_and_leaves_nothing(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "home")
    with platform.watched() as watched:
        connections = platform.connections()
        loaded, assets = _graph(connections["dagster_url"])
        assert loaded == ["videomoments"]
        assert {"video", "audio", "transcript", "moments", "clips"} <= assets
        for name in ("Dagster daemon", "Code server", "Worker"):
            os.kill(connections["children"][name], signal.SIGKILL)
            watched.until(f"{name} is back")
        assert _daemons(platform) == 1
        assert _graph(connections["dagster_url"])[1] == assets
        os.kill(watched.process.pid, signal.SIGKILL)
        watched.process.wait(10)
        again = platform.up()
        assert _daemons(platform) == 1
        assert again["dagster_url"] == connections["dagster_url"]
        assert _graph(again["dagster_url"])[1] == assets
        platform.down()
