"""One whole platform, as a user has it: started by the command line, driven over HTTP, run by the real daemon."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg2
import pytest
import requests

from faults.holding import Hold
from faults.inspection import inspect
from faults.kinds import COMPLETED, Scene, flush_redis, kill, kill_executing
from faults.servers import Servers
from faults.site import Site
from tests.media.make import Drawing, draw
from tests.stack.platforms import Platform as StartedPlatform
from tests.web import Web, serving
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.process_table import marked

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
_CANARY = "canary-of-an-address"
_NOISE_SECONDS = 10  # of a machine that runs other tests beside this one


@dataclass
class Platform:
    home: Path
    environment: dict[str, str]
    web: Web
    video: Path

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("videomoments")), *arguments],
            env=self.environment, capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.command(*arguments, "--json").stdout)

    def submit(self, url: str, **fields: str) -> dict[str, Any]:
        """As `videomoments submit` asks for it."""
        answer = requests.post(f"{self.connections['api_url']}/api/videos", json={"url": url, **fields}, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def status(self, video: str) -> dict[str, Any]:
        """As `videomoments status` asks for it; a command of its own for each look would be most of the work here."""
        return requests.get(f"{self.connections['api_url']}/api/pipeline/{video}/status", timeout=10).json()

    @property
    def connections(self) -> dict[str, Any]:
        return json.loads((self.home / "connections.json").read_text())

    def url(self, name: str) -> str:
        """A video of its own for every test, so that no test meets another's."""
        return self.web.serve_file(f"/{name}.mp4", self.video)

    def dagster(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        url = self.connections["dagster_database_url"].replace("+psycopg2", "")
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def runs_of(self, request_id: str) -> list[str]:
        """Statuses of the Dagster runs of one request."""
        rows = self.dagster(
            "SELECT r.status FROM runs r JOIN run_tags t ON t.run_id = r.run_id"
            " WHERE t.key = 'videomoments/request_id' AND t.value = %s", request_id,
        )  # fmt: skip
        return [status for (status,) in rows]

    def graphql(self, query: str, variables: dict[str, Any]) -> Any:
        answer = requests.post(
            self.connections["dagster_url"] + "/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def graph(self) -> tuple[list[str], set[str]]:
        """The code locations that are loaded, and the assets."""
        data = self.graphql(
            "{workspaceOrError{... on Workspace{locationEntries{name loadStatus}}} assetNodes{assetKey{path}}}", {}
        )
        entries = data["workspaceOrError"]["locationEntries"]
        loaded = [entry["name"] for entry in entries if entry["loadStatus"] == "LOADED"]
        return loaded, {node["assetKey"]["path"][-1] for node in data["assetNodes"]}

    def daemons(self) -> list[psutil.Process]:
        return [process for process in marked(self.home) if "videomoments_dagster.defs.daemon" in process.cmdline()]

    def kill(self, *parts: str) -> None:
        """kill -9, and wait until the supervisor says that they are back."""
        log = self.home / "logs" / "supervisor.log"
        before = log.read_text()
        for part in parts:
            os.kill(self.connections["children"][part], signal.SIGKILL)
        _wait(lambda: all(log.read_text().count(f"{part} is back") > before.count(f"{part} is back") for part in parts))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform")
    names = {str(field.alias) for field in Settings.model_fields.values()}
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment |= {"VIDEOMOMENTS_HOME": str(home), "VIDEOMOMENTS_ALLOW_PRIVATE_URLS": "1"}
    video = draw(tmp_path_factory.mktemp("video") / "short.mp4", Drawing(seconds=4))
    with serving() as web:
        platform = Platform(home, environment, web, video)
        platform.command("up", "--detach")
        try:
            yield platform
        finally:
            StartedPlatform(home, usual_ports=True).down()


@pytest.fixture(scope="module")
def library(platform: Platform) -> dict[str, dict[str, Any]]:
    """Five requests at once, of which one can only fail; by name, with the status they ended in."""
    submitted = {"tone": platform.json("submit", platform.url("tone"), "--title", "tone")}
    submitted |= {name: platform.submit(platform.url(name), title=name) for name in ("one", "two")}
    submitted["checked"] = platform.json("submit", platform.url("checked") + f"?token={_CANARY}")
    submitted["nowhere"] = platform.submit(platform.web.url + f"/nowhere.mp4?X-Goog-Signature={_CANARY}")
    return {
        name: {**_until_ended(platform, name), "request_id": request["request_id"]}
        for name, request in submitted.items()
    }


def test_a_url_goes_through_every_stage_and_ends_honestly_without_moments(platform: Platform, library) -> None:
    status = library["tone"]
    assert (status["status"], {stage["status"] for stage in status["stages"]}) == ("completed", {"completed"})
    assert status["reason"]
    assert platform.runs_of(status["request_id"]) == ["SUCCESS"]
    api = platform.connections["api_url"]
    [run] = [run for run in _history(api, "tone") if run["pipeline_type"] == "full"]
    assert (run["status"], run["total_moments_generated"]) == ("completed", 0)
    again = platform.command("submit", platform.web.url + "/tone.mp4")
    assert "has been processed" in again.stderr
    assert platform.web.hits["/tone.mp4"] == 1


def test_a_wrong_url_fails_by_name_and_does_not_hold_up_the_others(platform: Platform, library) -> None:
    assert {name: status["status"] for name, status in library.items()} == {
        "tone": "completed", "one": "completed", "two": "completed", "checked": "completed", "nowhere": "failed",
    }  # fmt: skip
    error = library["nowhere"]["error"]
    assert (error["stage"], error["code"], error["retryable"]) == ("VIDEO_DOWNLOAD", "source_not_found", False)
    assert set(error) == {"stage", "code", "message", "hint", "retryable"}
    [run] = _history(platform.connections["api_url"], "nowhere")
    assert (run["status"], run["error_stage"]) == ("failed", "VIDEO_DOWNLOAD")
    waited = platform.command("submit", platform.web.url + "/nowhere.mp4", "--wait", check=False)
    assert waited.returncode == 1
    assert "VIDEO_DOWNLOAD" in waited.stderr and "Traceback" not in waited.stderr


def test_a_daemon_killed_while_requests_come_in_loses_none_and_runs_none_twice(platform: Platform, library) -> None:
    """kill -9 between the read of the stream and the submission of the runs, as near as can be aimed from outside."""
    submitted = [platform.submit(platform.url(f"kill-{n}")) for n in range(2)]
    [daemon] = platform.daemons()
    os.kill(daemon.pid, signal.SIGKILL)
    submitted.append(platform.submit(platform.url("kill-2")))
    for request in submitted:
        status = _until_ended(platform, request["video_id"])
        assert status["status"] == "completed"
        assert platform.runs_of(request["request_id"]) == ["SUCCESS"]
        assert platform.web.hits[f"/{request['video_id']}.mp4"] == 1
    assert len(platform.daemons()) == 1


def test_what_runs_and_what_waits_is_cancelled_within_seconds_and_starts_again_at_once(
    platform: Platform, library
) -> None:
    """Two downloads that never end fill the platform; a third waits behind them."""
    ended = threading.Event()

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        request.wfile.write(b"begun")
        request.wfile.flush()
        ended.wait(60)

    names = ("endless-1", "endless-2", "waiting")
    api = platform.connections["api_url"]
    try:
        for name in names[:2]:
            platform.web.answers[f"/{name}.mp4"] = endless
        submitted = {name: platform.submit(f"{platform.web.url}/{name}.mp4") for name in names[:2]}
        _wait(lambda: all(platform.status(name)["status"] == "running" for name in names[:2]))
        submitted["waiting"] = platform.submit(platform.url("waiting"))
        begun = time.monotonic()
        platform.command("cancel", names[0])
        for name in names[1:]:
            assert requests.post(f"{api}/api/pipeline/{name}/cancel", timeout=10).status_code == 202
        for name in names:
            assert _until_ended(platform, name)["status"] == "cancelled"
        assert time.monotonic() - begun < 5 + _NOISE_SECONDS
    finally:
        ended.set()
    for name in names:
        assert set(platform.runs_of(submitted[name]["request_id"])) <= {"CANCELED"}
        assert [run["status"] for run in _history(api, name)] == ["cancelled"]
    nothing = platform.command("cancel", "waiting", check=False)
    assert nothing.returncode == 1 and "nothing to cancel" in nothing.stderr
    assert platform.dagster("SELECT 1 FROM concurrency_slots WHERE run_id IS NOT NULL") == []
    assert not [path for path in (platform.home / "temp").rglob("*") if path.is_file() and "endless" in str(path)]
    platform.command("retry", "waiting", "--wait")
    assert platform.web.hits["/waiting.mp4"] == 1


def test_several_faults_at_once_lose_no_video_and_do_nothing_twice(platform: Platform, library) -> None:
    """A few of `make faults`, in the life of two videos: on the way in, at work, and all that Redis knew."""
    site = Site(StartedPlatform(platform.home, usual_ports=True), Servers(platform.web, platform.video))
    scene = Scene(site, ["faulty-0", "faulty-1"], random.Random(5))
    with Hold(site, Stage.VIDEO_DOWNLOAD).held() as hold:  # so all of it meets them half-way
        scene.submit()
        kill("API")(scene)
        kill("Code server")(scene)
        scene.wait_for(Stage.VIDEO_DOWNLOAD, hold)
        kill_executing(scene)
        flush_redis(scene)

    size = platform.video.stat().st_size

    def seen() -> list[str]:
        return inspect(site, scene.accepted, since=0, allowed=COMPLETED, again_bytes=size, whole=False).violations

    assert seen() == []
    stray = platform.home / "objects" / "videos" / "faulty-0" / "stray.mp4"
    stray.touch()
    picture = platform.home / "objects" / "thumbnails" / "faulty-0" / "faulty-0.jpg"
    content = picture.read_bytes()
    picture.write_bytes(b"")
    assert [wrong.replace(f" {-(-len(content) // 1024)}", " N") for wrong in seen()] == [
        "faulty-0: object videos/faulty-0/stray.mp4 without a row",
        "faulty-0: thumbnails/faulty-0/faulty-0.jpg has 0 kB, and its row says N",
    ], "what is wrong is found"
    stray.unlink()
    picture.write_bytes(content)


def test_its_parts_come_back_when_killed_and_after_its_supervisor_was_killed_there_is_no_second(
    platform: Platform,
) -> None:
    before, (loaded, assets) = platform.connections, platform.graph()
    assert loaded == ["videomoments"]
    assert {"video", "audio", "transcript", "moments", "clips"} <= assets
    platform.kill("Dagster daemon", "Worker")
    platform.kill("Code server")
    assert len(platform.daemons()) == 1
    assert platform.graph()[1] == assets
    os.kill(before["supervisor"]["pid"], signal.SIGKILL)
    platform.command("up", "--detach")
    assert platform.connections["supervisor"] != before["supervisor"]
    assert platform.connections["dagster_url"] == before["dagster_url"]
    assert len(platform.daemons()) == 1
    assert platform.graph()[1] == assets


def test_the_dagster_ui_materializes_and_backfills_without_run_config(platform: Platform, library) -> None:
    """What the buttons of the UI send: assets, partitions, and nothing else."""
    launched = platform.graphql(
        "mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p)"
        " { __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
        {
            "p": {
                "partitionNames": ["one", "two"],
                "assetSelection": [{"path": [asset]} for asset in ("moments", "clips", "thumbnails")],
            }
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    api = platform.connections["api_url"]
    for name in ("one", "two"):
        _wait(lambda name=name: len(_history(api, name)) == 2)
        newest = _history(api, name)[0]
        assert (newest["status"], newest["pipeline_type"]) == ("completed", "moments_only")


def test_checks_run_from_the_command_line_and_find_a_lost_object(platform: Platform, library) -> None:
    (platform.home / "objects" / "thumbnails" / "checked" / "checked.jpg").unlink()
    broken = platform.command("check", "checked", "--json", check=False)
    assert (broken.returncode, broken.stderr) == (1, "")
    assert len(json.loads(broken.stdout)) == 10
    faults = {outcome["check"] for outcome in json.loads(broken.stdout) if not outcome["passed"]}
    assert faults == {"thumbnails_decode", "rows_and_objects_agree"}
    again = platform.command("run", "checked", "--type", "moments_only", "--wait")
    assert "Started checked" in again.stderr
    outcomes = platform.json("check", "checked")
    assert len(outcomes) == 10 and all(outcome["passed"] for outcome in outcomes)


def test_a_deleted_video_is_gone_everywhere(platform: Platform, library) -> None:
    platform.command("submit", platform.url("gone"), "--wait")
    platform.command("delete", "gone")
    assert "gone" not in [video["id"] for video in platform.json("list")]
    assert [path for path in (platform.home / "objects").rglob("*gone*") if path.is_file()] == []
    _wait(lambda: not platform.dagster("SELECT 1 FROM dynamic_partitions WHERE partition = %s", "gone"))
    again = platform.command("delete", "gone", check=False)
    assert again.returncode == 1 and "gone" in again.stderr


def test_logs_are_one_story_a_request_and_hold_no_secret(platform: Platform, library) -> None:
    """Of the API, the sensor, the worker and its media processes, and of what Dagster keeps."""
    logs = {path.stem: path.read_text() for path in (platform.home / "logs").glob("*.log")}
    ours = {name: text for name, text in logs.items() if name not in {"postgresql", "redis", "supervisor"}}
    lines = [json.loads(line) for text in ours.values() for line in text.splitlines()]
    story = [line for line in lines if line.get("request_id") == library["checked"]["request_id"]]
    assert {line["process"] for line in story} == {"api", "code-server", "worker"}
    assert {line["video"] for line in story} == {"checked"}
    assert {line["stage"] for line in story if line.get("outcome") == "completed"} == set(Stage)
    assert {"probe", "extract_audio"} <= {line.get("operation") for line in story}
    thumbnail = requests.get(platform.connections["api_url"] + "/api/videos/checked", timeout=10).json()[
        "thumbnail_url"
    ]
    assert requests.get(thumbnail, timeout=10).ok
    signature = parse_qs(urlsplit(thumbnail).query)["signature"][0]
    urls = [platform.connections[name] for name in ("database_url", "dagster_database_url", "redis_url")]
    secrets = [_CANARY, signature, *{str(urlsplit(url).password) for url in urls}]
    assert len(secrets) == 4
    assert [(name, secret) for name, text in logs.items() for secret in secrets if secret in text] == []
    for table in ("event_logs", "asset_keys", "runs", "job_ticks", "run_tags"):
        found = f"SELECT count(*) FROM {table} AS rows WHERE strpos(rows::text, %s) > 0"  # noqa: S608
        assert [platform.dagster(found, secret) for secret in secrets] == [[(0,)]] * len(secrets), table


def _history(api: str, video: str) -> list[dict[str, Any]]:
    runs = requests.get(f"{api}/api/pipeline/{video}/history", timeout=10).json()["items"]
    return [run for run in runs if run["status"] != "running"]


def _until_ended(platform: Platform, video: str) -> dict[str, Any]:
    ended = {"completed", "failed", "partial", "cancelled"}
    _wait(lambda: platform.status(video)["status"] in ended)
    return platform.status(video)


def _wait(condition: Any, seconds: float = 120) -> None:
    """Poll what lives in another process and sends no event."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.5)
