"""Sixty videos and two hosts with workers, of which one is cut off for half a minute and the other dies for good:
what is done to them, and all that is seen of it. What must hold is in test_across_hosts.py.
"""

import json
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import requests

from tests.hosts.cluster import Cluster, Gate, started, until
from tests.hosts.network import Host, Network
from tests.media.make import Drawing, draw
from tests.storage.bucket_server import BUCKET
from videomoments_dagster.stack.process_table import wait_gone

VIDEOS = 60
CUT_SECONDS = 30.0
STORING_A_VIDEO = f"POST /upload/storage/v1/b/{BUCKET}/o"
READING_THE_SOUND = f"GET /download/storage/v1/b/{BUCKET}/o/audio/"


@dataclass
class Run:
    """One attempt at a video, as Dagster has it. `events` of its steps: (seconds since 1970, kind, step)."""

    id: str
    video: str
    status: str
    created_at: float
    ended_at: float
    host: str = ""
    events: list[tuple[float, str, str]] = field(default_factory=list)

    def steps(self, *kinds: str) -> list[str]:
        return [step for _, kind, step in self.events if kind in kinds]


@dataclass
class Story:
    """What was done to the hosts, and all that was seen afterwards. Times are seconds since 1970."""

    started_at: float = 0.0
    submitted_at: float = 0.0
    cut_at: float = 0.0
    fenced_at: float = 0.0
    healed_at: float = 0.0
    works_again_at: float = 0.0
    died_at: float = 0.0
    over_at: float = 0.0
    at_work_when_cut: dict[str, int] = field(default_factory=dict)
    at_work_when_died: dict[str, int] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    fetched: dict[str, int] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    slots: list[tuple[Any, ...]] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    temporary: list[Path] = field(default_factory=list)

    def attempts(self) -> dict[str, list[Run]]:
        """Runs by video, oldest first."""
        found = defaultdict(list)
        for run in sorted(self.runs.values(), key=lambda run: run.created_at):
            found[run.video].append(run)
        return found

    def overtaken_by(self, run: str) -> list[Run]:
        """Runs of other videos that began after this one was lost and before it was resumed."""
        lost, again = self.runs[run], self.next_attempt(run)
        return [
            other
            for other in self.runs.values()
            if other.events and lost.ended_at < other.events[0][0] < again.events[0][0]
        ]

    def next_attempt(self, run: str) -> Run:
        attempts = self.attempts()[self.runs[run].video]
        return attempts[attempts.index(self.runs[run]) + 1]


def told(network: Network, directory: Path) -> Story:
    """Do it all, and say what was seen."""
    story, video = Story(), draw(directory / "short.mp4", Drawing(seconds=1, fps=10, gop=10))
    story.started_at = time.time()
    with started(network, directory) as cluster:
        _submit(cluster, video)
        story.submitted_at = time.time()
        _cut_and_heal(cluster, story, cluster.workers[1])
        _kill(cluster, story, cluster.workers[0])
        _until_all_is_over(cluster, story)
        _look_around(cluster, story)
        _read_runs(cluster, story)
    return story


def _submit(cluster: Cluster, video: Path) -> None:
    for number in range(VIDEOS):
        url = cluster.web.serve_file(f"/video-{number}.mp4", video)
        requests.post(f"{cluster.connections['api_url']}/api/videos", json={"url": url}, timeout=30).raise_for_status()


def _cut_and_heal(cluster: Cluster, story: Story, host: Host) -> None:
    """The cable is out while the host stores a video that it has fetched."""
    gate = cluster.bucket.before_answer = Gate(host, STORING_A_VIDEO)
    gate.wait()
    story.cut_at = time.time()
    host.unplug()
    story.at_work_when_cut = cluster.executed_by(host)
    gate.open()
    executing = [psutil.Process(pid) for pid in story.at_work_when_cut.values()]
    assert wait_gone(executing, timeout_seconds=CUT_SECONDS) == [], "a host that is cut off went on"
    story.fenced_at = time.time()
    Event().wait(story.cut_at + CUT_SECONDS - time.time())
    gate = cluster.bucket.before_answer = Gate(host, "GET")
    gate.open()
    story.healed_at = time.time()
    host.plug()
    gate.wait()
    story.works_again_at = time.time()


def _kill(cluster: Cluster, story: Story, host: Host) -> None:
    """The power is gone while the host reads a sound track that it has stored: two steps of the run are done."""
    gate = cluster.bucket.before_answer = Gate(host, READING_THE_SOUND)
    gate.wait()
    story.died_at = time.time()
    host.unplug()
    story.at_work_when_died = cluster.executed_by(host)
    host.kill()
    gate.open()


def _until_all_is_over(cluster: Cluster, story: Story) -> None:
    unfinished = "SELECT 1 FROM pipeline_requests WHERE state <> 'finished' LIMIT 1"
    until(lambda: not cluster.rows("database", unfinished), "every request is finished", seconds=270)
    story.over_at = time.time()


def _look_around(cluster: Cluster, story: Story) -> None:
    """What is left: at once, or as soon as what ends by itself after the last run has ended."""

    def look() -> bool:
        story.locks = cluster.kept_in_redis("pipeline:*:lock")
        story.leases = cluster.kept_in_redis("run:*:lease")
        story.slots = cluster.rows("dagster_database", "SELECT run_id FROM concurrency_slots WHERE run_id IS NOT NULL")
        story.slots += cluster.rows("dagster_database", "SELECT run_id FROM pending_steps")
        temporary = cluster.home(cluster.workers[1]) / "temp"
        story.temporary = list(temporary.glob("*/*/*"))
        held = [value for value in story.leases.values() if not value.startswith("lost: ")]
        return not (story.locks or held or story.slots or story.temporary)

    with suppress(AssertionError):  # what is not so is for the tests to say
        until(look, "nothing is left", seconds=10)
    known = cluster.kept_in_redis("worker:*").values()
    story.workers = [json.loads(worker)["host"] for worker in known]
    api = cluster.connections["api_url"]
    for number in range(VIDEOS):
        status = requests.get(f"{api}/api/pipeline/video-{number}/status", timeout=30).json()
        story.statuses[f"video-{number}"] = status["status"]
        story.fetched[f"video-{number}"] = cluster.web.hits[f"/video-{number}.mp4"]


def _read_runs(cluster: Cluster, story: Story) -> None:
    for id_, *values in cluster.rows(
        "dagster_database",
        "SELECT run_id, value, status, extract(epoch FROM create_timestamp), end_time"
        " FROM runs JOIN run_tags USING (run_id) WHERE key = 'dagster/partition'",
    ):
        video, status, created_at, ended_at = values
        story.runs[id_] = Run(id_, video, status, float(created_at), float(ended_at or 0))
    for id_, at, kind, step in cluster.rows(
        "dagster_database",
        "SELECT run_id, extract(epoch FROM timestamp), dagster_event_type, step_key FROM event_logs"
        " WHERE step_key IS NOT NULL AND dagster_event_type NOT LIKE '%_PLANNED' ORDER BY id",
    ):
        if id_ in story.runs:  # a schedule's hour may come, too
            story.runs[id_].events.append((float(at), kind, step))
    for id_, host in cluster.hosts_of_runs().items():
        if id_ in story.runs:
            story.runs[id_].host = host
