"""A whole platform and the servers around it, as an operator and a client see them; and its processes, to be killed."""

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import redis
import requests

from faults.servers import SENTENCES, Servers, servers
from tests.media.make import Drawing, draw
from tests.stack.platforms import Platform
from tests.storage.accounts import throw_away_account
from tests.storage.bucket_server import BUCKET
from videomoments_dagster.models.registry import ModelRegistry
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.postgres import connect
from videomoments_dagster.stack.process_table import kill_all, marked
from videomoments_dagster.storage import names

CONFIG = {"min_moment_length": 1, "padding_left": 0.5, "padding_right": 0.5}
ENDED = {"completed", "failed", "partial", "cancelled"}
MEDIA_CHILDREN = {"videomoments_dagster.media.child", "videomoments_dagster.models.builtin.speech_child"}
_MODELS = ("parakeet", "minimax", "qwen3_vl_fp8")
_PATIENCE_SECONDS = 90.0
_SKIPPED_BYTES = 3 * 1024 * 1024


class Site:
    """`platform` with `servers` around it. Methods that ask the API wait for it to be back: clients do."""

    def __init__(self, platform: Platform, servers: Servers) -> None:
        self.platform, self.servers = platform, servers
        self._session = requests.Session()

    @property
    def home(self) -> Path:
        return self.platform.home

    @property
    def connections(self) -> dict[str, Any]:
        return self.platform.connections()

    # What a client does

    def submit(self, video: str, *, key: str | None = None) -> str:
        """Ask for a video as a careful client does: again with the same Idempotency-Key until there is an answer.
        Returns the request's id."""
        body = {"url": self.servers.source(video), "identifier": video, "config": CONFIG}
        answer = self.call("POST", "/api/videos", json=body, headers={"Idempotency-Key": key or uuid4().hex})
        assert answer.status_code == 202, answer.text
        return answer.json()["request_id"]

    def start(self, video: str) -> str:
        """Have a known video processed again; the request's id."""
        answer = self.call("POST", f"/api/pipeline/{video}/start", json={"config": CONFIG})
        assert answer.status_code == 202, answer.text
        return answer.json()["request_id"]

    def status(self, video: str) -> dict[str, Any]:
        answer = self.call("GET", f"/api/pipeline/{video}/status")
        return answer.json() if answer.status_code == 200 else {"status": f"{answer.status_code}", "stages": []}

    def call(self, method: str, path: str, *, timeout: float = 15, **options: Any) -> requests.Response:
        """The API's answer. One of 5xx, and none at all, is asked for again."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with suppress(requests.RequestException, KeyError):
                url = self.connections["api_url"] + path
                answer = self._session.request(method, url, timeout=timeout, **options)
                if answer.status_code < 500 or time.monotonic() > end:
                    return answer
            assert time.monotonic() < end, f"{method} {path} had no answer for {_PATIENCE_SECONDS:.0f} s."
            time.sleep(0.2)

    # What an operator sees

    def rows(self, database: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """`database` is 'database' or 'dagster_database'."""
        with closing(connect(self.connections[f"{database}_url"])) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.connections["redis_url"], decode_responses=True, socket_timeout=10)

    def redis_answers(self) -> bool:
        with suppress(redis.RedisError, KeyError), self.redis() as client:
            return bool(client.ping())
        return False

    def stages(self, video: str) -> dict[str, str]:
        """Stage to its status, read where the run writes it: cheap enough to be asked 50 times a second."""
        with self.redis() as client:
            fields: Any = client.hgetall(f"pipeline:{video}:active")
        suffix = "_status"
        return {name.removesuffix(suffix): text for name, text in fields.items() if name.endswith(suffix)}

    def objects(self, video: str) -> dict[str, str]:
        """What is stored under the video's prefixes: URL to name."""
        if bucket := self.servers.bucket:
            root, stored = f"gs://{BUCKET}", list(bucket.objects)
        else:
            directory = self.home / "objects"
            root, stored = directory.as_uri(), [str(path.relative_to(directory)) for path in _files(directory)]
        return {f"{root}/{name}": name for name in stored if name.startswith(names.prefixes(video))}

    def size_bytes(self, name: str) -> int:
        """Of a stored object."""
        if bucket := self.servers.bucket:
            return len(bucket.objects[name][1])
        return (self.home / "objects" / name).stat().st_size

    def sweep(self) -> list[str]:
        """What the platform's own consistency sweep finds wrong; it leaves alone what is young."""
        done = self.platform.run("sweep", "--json")
        assert done.returncode in {0, 1} and done.stdout, done.stderr[-1000:]
        return [f"{each['kind']} {each['name']}: {each['wrong']}" for each in json.loads(done.stdout)["findings"]]

    def register_models(self) -> None:
        """Point the registry to the stubs, as after the platform's installation, and after Redis lost everything."""
        if not self.servers.stubs:
            return
        chat, speech = self.servers.stubs
        with self.redis() as client:
            registry = ModelRegistry(client, get_settings())
            for key in _MODELS:
                registry.change(key, {"base_url": (speech if key == "parakeet" else chat).url})

    # Its processes

    def pid(self, part: str) -> int:
        """Of a part as the supervisor names it."""
        return self.connections["children"][part]

    def tree(self, part: str) -> list[psutil.Process]:
        """The part's process, and all below it."""
        root = psutil.Process(self.pid(part))
        return [root, *root.children(recursive=True)]

    def executing(self) -> list[psutil.Process]:
        """The worker's processes that execute runs."""
        return psutil.Process(self.pid("Worker")).children()

    def media_children(self) -> list[psutil.Process]:
        return [process for process in marked(self.home) if MEDIA_CHILDREN & set(_command(process))]

    def strays(self) -> list[psutil.Process]:
        """Live processes of the platform that nobody below the supervisor started."""
        supervisor = psutil.Process(self.connections["supervisor"]["pid"])
        ours = {process.pid for process in supervisor.children(recursive=True)}
        return [process for process in marked(self.home) if process.pid not in ours]

    def kill(self, processes: Iterable[psutil.Process]) -> None:
        """kill -9, and wait for the end."""
        kill_all(processes)

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """The part's processes stand still inside the block, and its connections stay open."""
        processes = self.tree(part)
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def kill_everything(self) -> None:
        """Everything of the platform ends at once, the supervisor first; then it is started again, as systemd does."""
        supervisor = psutil.Process(self.connections["supervisor"]["pid"])
        os.kill(supervisor.pid, signal.SIGKILL)
        kill_all([*self.platform.processes(), supervisor])
        self.platform.up()


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """Started in `directory`/home, and stopped at the end."""
    home, key = directory / "home", directory / "key.json"
    home.mkdir(parents=True, exist_ok=True)
    key.write_text(json.dumps(throw_away_account()))
    video = draw(directory / "short.mp4", Drawing(seconds=SENTENCES))
    with video.open("ab") as file:  # a box that players skip: long enough that a download begun anew is noticed
        file.write(_SKIPPED_BYTES.to_bytes(4, "big") + b"free" + bytes(_SKIPPED_BYTES - 8))
    with servers(video) as around:
        assert around.bucket
        platform = Platform(
            home,
            GCS_BUCKET_NAME=BUCKET,
            GCS_CREDENTIALS_PATH=str(key),
            STORAGE_EMULATOR_HOST=around.bucket.url,
            VIDEOMOMENTS_ALLOW_PRIVATE_URLS="1",
            VIDEOMOMENTS_CLOCK_CHECK="off",  # the stubs' clocks are not what is tried here
            VIDEOMOMENTS_WORKER_PROCESSES="2",
        )
        platform.up()
        found = Site(platform, around)
        try:
            found.register_models()
            yield found
        finally:
            platform.down()


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
