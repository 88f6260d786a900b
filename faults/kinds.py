"""The faults: what is done to a site, and when. Each is aimed at a moment in the life of the videos it meets."""

import random
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from threading import Thread
from uuid import uuid4

import psutil
import requests

from faults.disk import fill
from faults.holding import Hold
from faults.servers import CONNECTION_CUT, MODEL_GONE
from faults.site import CONFIG, ENDED, Site
from tests.hosts.cluster import until
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.stack.postgres import connect

COMPLETED = frozenset({"completed"})
TYPED = frozenset({"completed", "partial", "failed"})
_OUTAGE_SECONDS = 6.0
_FROZEN_SECONDS = 10.0
_JITTER_SECONDS = 0.4
CANCELLED_WITHIN_SECONDS = 5.0


@dataclass
class Scene:
    """One injection: the videos it meets, with their requests once they are accepted, and where its chance comes from.
    `stages` is what each was doing when it happened."""

    site: Site
    videos: list[str]
    chance: random.Random
    accepted: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    struck_at: float = 0.0
    over_at: float = 0.0
    held: bool = False

    def strike(self, act: "Act") -> None:
        """Have it done; it is over then, unless it says itself since when (`over_at`, by time.monotonic)."""
        self.struck_at = time.monotonic()
        act(self)
        self.over_at = self.over_at or time.monotonic()

    def submit(self) -> None:
        for video in self.videos:
            self.accepted[video] = self.site.submit(video)

    def wait_for(self, stage: Stage | None, hold: Hold | None = None) -> None:
        """Until a video is in `stage`, and a moment longer; without one, any moment of the first seconds. With `hold`,
        until it is caught there."""
        if hold:
            hold.catch(self.videos[0])
            self.held = True
        elif stage is None:
            time.sleep(self.chance.uniform(0, 4))
        else:
            until(lambda: self._are_in(stage), f"a video is in {stage}", beat_seconds=0.01)  # some last 0.1 s
        time.sleep(self.chance.uniform(0, _JITTER_SECONDS))
        self.stages = {video: self.site.stages(video) for video in self.videos}

    def _are_in(self, stage: Stage) -> bool:
        return any(self.site.stages(video).get(stage) == "running" for video in self.videos)


Act = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """`name` is a row of the table; `aims` are the stages at which it happens, None for any moment. Videos may end as
    `ends`. `whole`: those that are completed have all their moments. `restarts`: what ended cancelled is started again
    at once, and completes. `holds`: the stage that it is aimed at would not end by itself (holding.py)."""

    name: str
    act: Act
    aims: Sequence[Stage | None] = (None,)
    ends: frozenset[str] = COMPLETED
    submits: bool = True
    whole: bool = True
    deletes: bool = False
    restarts: bool = False
    holds: bool = False
    needs_disk: bool = False


def kill(part: str) -> Act:
    def act(scene: Scene) -> None:
        scene.site.kill([psutil.Process(scene.site.pid(part))])

    return act


def kill_executing(scene: Scene) -> None:
    scene.site.kill(scene.site.executing()[:1])


def kill_media_child(scene: Scene) -> None:
    until(scene.site.media_children, "a media child works")
    scene.site.kill(scene.site.media_children()[:1])


def kill_backends(scene: Scene) -> None:
    """PostgreSQL ends all sessions when one of its backends is killed, and recovers by itself."""
    children = psutil.Process(scene.site.pid("PostgreSQL")).children()
    backends = [child for child in children if "idle" in " ".join(child.cmdline())] or children
    scene.site.kill([scene.chance.choice(backends)])


def freeze(part: str) -> Act:
    def act(scene: Scene) -> None:
        with scene.site.frozen(part):
            time.sleep(_FROZEN_SECONDS)

    return act


def kill_api_before_publishing(scene: Scene) -> None:
    """The table of requests is locked until the API waits to write there, having asked Redis all it asks before; then
    Redis stands still, the row is committed, and the API is killed while it hands the request on. The client asks
    again with its key."""
    [video] = scene.videos
    site, key = scene.site, uuid4().hex
    body = {"url": site.servers.source(video), "identifier": video, "config": CONFIG}
    address = site.connections["api_url"] + "/api/videos"

    def ask() -> None:
        with suppress(requests.RequestException):
            requests.post(address, json=body, headers={"Idempotency-Key": key}, timeout=60)

    asking = Thread(target=ask)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%%'"
    row = "SELECT request_id FROM pipeline_requests WHERE idempotency_key = %s"
    with ExitStack() as frozen:
        with closing(connect(site.connections["database_url"])) as connection, connection.cursor() as cursor:
            connection.autocommit = False
            cursor.execute("LOCK TABLE pipeline_requests IN SHARE MODE")
            asking.start()
            until(lambda: site.rows("database", waiting), "the API writes the request's row")
            frozen.enter_context(site.frozen("Redis"))
            connection.rollback()
        until(lambda: site.rows("database", row, key), "the request's row is committed")
        site.kill([psutil.Process(site.pid("API"))])
    asking.join()
    [(scene.accepted[video],)] = site.rows("database", row, key)
    if site.submit(video, key=key) != scene.accepted[video]:
        scene.remarks.append(f"{video}: the same Idempotency-Key gave another request")


def flush_redis(scene: Scene) -> None:
    with scene.site.redis() as client:
        client.flushall()
    scene.site.register_models()


def empty_redis(scene: Scene) -> None:
    """Its files are gone too when it starts again."""
    processes = scene.site.tree("Redis")
    shutil.rmtree(scene.site.home / "redis" / "data")
    scene.site.kill(processes)
    until(scene.site.redis_answers, "Redis is back")
    scene.site.register_models()


def refuse_objects(scene: Scene) -> None:
    with scene.site.servers.bucket_answers(503):
        time.sleep(_OUTAGE_SECONDS)


def models_gone(scene: Scene) -> None:
    with scene.site.servers.models_answer(MODEL_GONE):
        time.sleep(_OUTAGE_SECONDS)


def models_cut(scene: Scene) -> None:
    with scene.site.servers.models_answer(CONNECTION_CUT):
        time.sleep(_OUTAGE_SECONDS / 2)


def fill_disk(scene: Scene) -> None:
    """The file system of the temporary files is full for a while; it is one of its own (disk.py)."""
    filler = fill(scene.site.home / "temp")
    time.sleep(_OUTAGE_SECONDS)
    filler.unlink()


def kill_everything(scene: Scene) -> None:
    scene.site.kill_everything()


def cancel(scene: Scene) -> None:
    """Over the API; what is cancelled is over within 5 seconds."""
    began = scene.over_at = time.monotonic()
    for video in scene.videos:
        answer = scene.site.call("POST", f"/api/pipeline/{video}/cancel")
        if not answer.ok and scene.site.status(video)["status"] not in ENDED:
            scene.remarks.append(f"{video}: cancel was answered with {answer.status_code}: {answer.text[:200]}")
    while any(scene.site.status(video)["status"] not in ENDED for video in scene.videos):
        if time.monotonic() - began > CANCELLED_WITHIN_SECONDS:
            late = f"not over {CANCELLED_WITHIN_SECONDS:.0f} s after the cancel"
            scene.remarks.append(f"{', '.join(scene.videos)}: {late}")
            return
        time.sleep(0.05)
    if scene.held and any(scene.site.status(video)["status"] != "cancelled" for video in scene.videos):
        scene.remarks.append(f"{', '.join(scene.videos)}: what was held ended by itself")


def delete(scene: Scene) -> None:
    """With force, while runs are at work."""
    scene.over_at = time.monotonic()
    for video in scene.videos:
        answer = scene.site.call("DELETE", f"/api/videos/{video}", params={"force": "true"}, timeout=60)
        if not answer.ok:
            scene.remarks.append(f"{video}: delete was answered with {answer.status_code}: {answer.text[:200]}")


def no_fault(_: Scene) -> None: ...


S = Stage
_WORK = (S.VIDEO_DOWNLOAD, S.AUDIO_EXTRACTION, S.TRANSCRIPTION, S.MOMENT_GENERATION, S.CLIP_EXTRACTION)
EVERY = (*_WORK, S.MOMENT_REFINEMENT, S.SCORING, S.THUMBNAILS)
_MEDIA = (S.VIDEO_DOWNLOAD, S.AUDIO_EXTRACTION, S.CLIP_EXTRACTION, S.THUMBNAILS)
_MODELS = (S.TRANSCRIPTION, S.MOMENT_GENERATION, S.MOMENT_REFINEMENT, S.SCORING)
ANY = (None,)

FAULTS = (
    Fault("none", no_fault, ANY * 2),
    Fault("API killed", kill("API"), ANY * 3),
    Fault("API killed between commit and XADD", kill_api_before_publishing, ANY * 2, submits=False),
    Fault("daemon killed", kill("Dagster daemon"), ANY * 5),
    Fault("code server killed", kill("Code server"), ANY * 3),
    Fault("worker process killed", kill_executing, EVERY),
    Fault("worker killed", kill("Worker"), (S.VIDEO_DOWNLOAD, S.MOMENT_GENERATION, S.CLIP_EXTRACTION)),
    Fault("media child killed", kill_media_child, _MEDIA, TYPED, whole=False),
    Fault("PostgreSQL killed", kill("PostgreSQL"), (S.VIDEO_DOWNLOAD, S.TRANSCRIPTION, S.CLIP_EXTRACTION)),
    Fault("PostgreSQL backend killed", kill_backends, (S.AUDIO_EXTRACTION, S.MOMENT_REFINEMENT, None)),
    Fault("PostgreSQL frozen for 10 s", freeze("PostgreSQL"), (S.MOMENT_GENERATION, None)),
    Fault("Redis killed", kill("Redis"), (S.AUDIO_EXTRACTION, S.CLIP_EXTRACTION, None)),
    Fault("Redis frozen for 10 s", freeze("Redis"), (S.TRANSCRIPTION, None)),
    Fault("Redis flushed", flush_redis, (S.VIDEO_DOWNLOAD, S.MOMENT_GENERATION, None), whole=False),
    Fault("Redis restarted empty", empty_redis, (S.TRANSCRIPTION, S.CLIP_EXTRACTION, None), whole=False),
    Fault("object store answers 503 for 6 s", refuse_objects, _MEDIA, TYPED),
    Fault(
        "disk full for 6 s",
        fill_disk,
        (S.VIDEO_DOWNLOAD, S.AUDIO_EXTRACTION, S.CLIP_EXTRACTION),
        TYPED,
        needs_disk=True,
    ),
    Fault("models answer 503 for 6 s", models_gone, _MODELS, TYPED, whole=False),
    Fault("models' connections cut", models_cut, _MODELS, TYPED, whole=False),
    Fault("cancelled", cancel, (*EVERY, None), frozenset({"cancelled", "completed"}), restarts=True, holds=True),
    Fault("deleted by force", delete, (S.VIDEO_DOWNLOAD, S.MOMENT_GENERATION, S.CLIP_EXTRACTION), deletes=True),
    Fault("all processes killed", kill_everything, (S.VIDEO_DOWNLOAD, S.CLIP_EXTRACTION)),
)
