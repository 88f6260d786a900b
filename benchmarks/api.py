"""What asking the HTTP API costs: one uvicorn worker, a library of 10,000 videos (library.py), answers read whole.

Two baselines of the same run: a bare FastAPI endpoint that returns a constant of the same size, and the query itself
through psycopg2, in one thread.
"""

import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
import requests
from sqlalchemy import event
from sqlalchemy.orm import Session

from benchmarks.library import VIDEOS, Vocabulary, fill
from benchmarks.load import load
from benchmarks.measuring import row
from benchmarks.services import services
from db.queries import moments, search, videos
from db.session import Database
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.stages import STAGES_OF, PipelineType
from videomoments_dagster.requests.status import LiveStatus
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage.factory import open_store

_SECONDS, _CONNECTIONS, _CROWD = 6.0, (16, 64), 300
_RAW_SECONDS = 2.0
_ONE_ROW_AIM, _PAGE_AIM, _SEARCH_AIM_MS = 0.6, 0.45, 50.0


@dataclass(frozen=True)
class Case:
    """`paths` are asked in turn; `query` is what one of them does in the database, None where Redis answers."""

    name: str
    paths: list[str]
    query: Callable[[Session], Any] | None = None


def main() -> None:
    print("\nThe HTTP API: one uvicorn worker, 10,000 videos, 100,000 moments, 2,000 transcripts of 8,000 words")
    with services():
        settings = get_settings()
        database = Database(settings.database_url)
        begun = time.monotonic()
        store = open_store(settings)
        vocabulary = fill(database.engine, store.cloud_url("videos").removesuffix("videos"))
        print(f"  the library took {time.monotonic() - begun:.0f} s to make")
        with _server("api") as port:
            cases = _cases(port, vocabulary)
            _print(port, cases, database)
        database.dispose()


def _cases(port: int, vocabulary: Vocabulary) -> list[Case]:
    chance = random.Random(7)
    some = [f"video-{chance.randint(1, VIDEOS)}" for _ in range(500)]
    status = LiveStatus(connect(get_settings().redis_url))
    for video in some:
        stages = STAGES_OF[PipelineType.FULL]
        status.begin(video, request_id="r", pipeline_type="full", stages=stages, run_id="run")
    words, common = vocabulary.words, vocabulary.words[:20]
    rare = [words[chance.randint(2_000, len(words) - 1)] for _ in range(200)]
    phrase = f"%22{words[3]}+{words[9]}%22"
    asked = [*rare, *(f"{chance.choice(common)}+{word}" for word in rare), *common, "nothere", phrase]
    chance.shuffle(asked)
    deep = _deep_cursor(port)
    return [
        Case("GET video", [f"/api/videos/{video}" for video in some], videos.overview(some[0]).run),
        Case("status", [f"/api/pipeline/{video}/status" for video in some]),
        Case("list, first page of 50", ["/api/videos"], videos.page().run),
        Case("list, page 150 of 50", [f"/api/videos?cursor={deep}"], videos.page(cursor=deep).run),
        Case(
            "moments of a video (10)",
            [f"/api/videos/{video}/moments" for video in some],
            lambda s: moments.of_video(s, videos.require(s, some[0]).id),
        ),
        Case("search", [f"/api/search?q={q}" for q in asked], lambda s: search.page(rare[0], limit=20).run(s)),
    ]


def _deep_cursor(port: int) -> str:
    cursor = None
    for _ in range(37):
        page = requests.get(f"http://127.0.0.1:{port}/api/videos", {"limit": 200, "cursor": cursor}, timeout=10).json()
        cursor = page["next_cursor"]
    return str(cursor)


def _print(port: int, cases: list[Case], database: Database) -> None:
    sizes = [load(port, case.paths, connections=1, seconds=1)["bytes"] for case in cases]
    for connections in _CONNECTIONS:
        print(f"  {connections} connections")
        row("", "requests/s", "p50 ms", "p99 ms", "bare/s", "of bare", "of query")
        with _server("benchmarks.bare", *map(str, sizes)) as bare_port:
            for number, case in enumerate(cases):
                bare = load(bare_port, [f"/{number}"], connections=connections, seconds=_SECONDS / 2)
                told = load(port, case.paths, connections=connections, seconds=_SECONDS)
                bare_again = load(bare_port, [f"/{number}"], connections=connections, seconds=_SECONDS / 2)
                base = statistics.mean(each["requests_a_second"] for each in (bare, bare_again))
                rate = told["requests_a_second"]
                raw = f"{rate / _raw(database, case.query):.2f}" if case.query else ""
                row(
                    f"{case.name}, {sizes[number]:,} bytes",
                    f"{rate:,.0f}",
                    f"{told['p50_ms']:.1f}",
                    f"{told['p99_ms']:.1f}",
                    f"{base:,.0f}",
                    f"{rate / base:.2f}",
                    raw,
                )
                assert set(told["answers"]) == {"200"}, told["answers"]
    crowd = load(port, [path for case in cases for path in case.paths[:50]], connections=_CROWD, seconds=_SECONDS)
    print(f"  {_CROWD} connections, all of these at once: {crowd['requests_a_second']:,.0f}/s, {crowd['answers']}")
    print(f"  aims, of bare: one row {_ONE_ROW_AIM}, pages of 50 {_PAGE_AIM}; search p99 under {_SEARCH_AIM_MS:.0f} ms")


def _raw(database: Database, ask: Callable[[Session], Any]) -> float:
    """How often a second the last statement of `ask` is answered, sent and fetched by psycopg2."""
    sent: list[tuple[str, Any]] = []

    def keep(_c: object, _cursor: object, statement: str, values: Any, _context: object, _many: bool) -> None:
        sent.append((statement, values))

    event.listen(database.reader, "before_cursor_execute", keep)
    with database.read() as session:
        ask(session)
    event.remove(database.reader, "before_cursor_execute", keep)
    statement, values = sent[-1]
    url = get_settings().database_url.replace("+psycopg2", "")
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        done, end = 0, time.perf_counter() + _RAW_SECONDS
        while time.perf_counter() < end:
            cursor.execute(statement, values)
            cursor.fetchall()
            done += 1
    connection.close()
    return done / _RAW_SECONDS


@contextmanager
def _server(*arguments: str) -> Iterator[int]:
    """A Python process that serves on loopback, once it does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    module, *more = arguments
    argv = ["-m", module, *(("--port", str(port)) if module == "api" else (str(port), *more))]
    environment = {**os.environ, "VIDEOMOMENTS_RATE_LIMIT": "0"}
    process = subprocess.Popen([sys.executable, *argv], env=environment, stderr=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server did not start"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()
