"""The services and the API through the command line: start, use, kill, start again. Dagster and the
worker are in test_end_to_end.py.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.stack.platforms import Platform
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.files import LONGEST_LOG_BYTES, read_json
from videomoments_dagster.stack.home import Home
from videomoments_dagster.stack.plan import make_plan
from videomoments_dagster.stack.postgres import EmbeddedPostgres, connect
from videomoments_dagster.stack.process_table import marked

pytestmark = pytest.mark.slow
SERVICES = "--no-dagster"


@pytest.fixture
def make_platform(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Platforms in directories of their own; stopped at the end, whatever became of the test."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "home", *, usual_ports: bool = False, **configured: str) -> Platform:
            configured = {"VIDEOMOMENTS_WORKER_PROCESSES": "0"} | configured
            platform = Platform(tmp_path / name, usual_ports=usual_ports, **configured)
            stack.callback(lambda: platform.processes() and platform.run("down"))
            return platform

        yield make


@pytest.fixture
def platform(make_platform: Callable[..., Platform]) -> Platform:
    return make_platform()


def _one(url: str, statement: str) -> object:
    with contextlib.closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        return row and row[0]


def _keep(url: str, what: str) -> None:
    with contextlib.closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS kept (what text)")
        cursor.execute("INSERT INTO kept VALUES (%s)", (what,))


def _health(url: str) -> int:
    with urllib.request.urlopen(f"{url}/health", timeout=20) as answer:
        return answer.status


def test_up_env_and_down(platform: Platform) -> None:
    """The exports of `env` are taken on by a real shell and used by real clients."""
    (long := platform.home / "logs" / "long.log").parent.mkdir()
    long.write_bytes(b"x" * (LONGEST_LOG_BYTES + 1))
    connections = platform.up(SERVICES)
    assert long.stat().st_size == 0 and long.with_name("long.log.1").stat().st_size > LONGEST_LOG_BYTES
    assert _health(connections["api_url"]) == 200
    assert (platform.home / "connections.json").stat().st_mode & 0o077 == 0
    exported = _shell(platform)
    assert _one(exported["DATABASE_URL"], "SELECT version_num IS NOT NULL FROM alembic_version") is True
    assert exported["DATABASE_URL"].startswith("postgresql://")
    assert _one(exported["DAGSTER_DATABASE_URL"], "SELECT current_database()") == "videomoments_dagster"
    with redis.Redis.from_url(exported["REDIS_URL"]) as client:
        assert client.ping()
    assert (Path(exported["DAGSTER_HOME"]) / "dagster.yaml").exists()
    assert exported["VIDEOMOMENTS_API_URL"] == connections["api_url"]
    again = platform.run("up", "--detach", SERVICES)
    assert again.returncode == 0
    assert connections["api_url"] in again.stderr
    assert platform.connections() == connections
    refused = platform.run("up", SERVICES)
    assert refused.returncode == 1
    assert connections["api_url"] in refused.stderr
    assert "videomoments down" in refused.stderr
    platform.down()
    assert not (platform.home / "connections.json").exists()
    assert "No platform runs" in platform.run("down").stderr
    nothing = platform.run("env")
    assert (nothing.returncode, nothing.stdout) == (1, "")


def _shell(platform: Platform) -> dict[str, str]:
    """The environment of a shell that took on the exports."""
    script = 'eval "$("$0" -m videomoments_dagster.cli.main env)" && exec env -0'
    shell = subprocess.run(
        ["bash", "-c", script, sys.executable], env=platform.environment, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)


def test_whatever_is_killed_nothing_is_lost_and_nothing_doubled(platform: Platform) -> None:
    """One life of a platform: its parts are killed one by one, and two interrupts end it at once; a shell that took on
    its exports starts it again, and its supervisor is killed."""
    with platform.watched(SERVICES) as watched:
        connections = platform.connections()
        exported = _shell(platform)
        _keep(connections["database_url"], "before the kill")
        with redis.Redis.from_url(connections["redis_url"]) as client:
            client.xadd("kept", {"what": "before the kill"})
        for name in ("PostgreSQL", "Redis", "API"):
            os.kill(connections["children"][name], signal.SIGKILL)
            watched.until(f"{name} is back")
        assert _one(connections["database_url"], "SELECT what FROM kept") == "before the kill"
        with redis.Redis.from_url(connections["redis_url"]) as client:
            assert client.xlen("kept") == 1
        assert _health(connections["api_url"]) == 200
        for _ in range(2):  # the first asks PostgreSQL and the API to finish; the second kills what is left
            watched.process.send_signal(signal.SIGINT)
    assert not (platform.home / "connections.json").exists()
    platform.environment |= exported
    killed = platform.up(SERVICES)
    os.kill(killed["supervisor"]["pid"], signal.SIGKILL)
    again = platform.up(SERVICES)
    assert again["supervisor"] != killed["supervisor"]
    assert again["database_url"] == killed["database_url"] == connections["database_url"]
    assert again["api_url"] == killed["api_url"]
    assert _one(again["database_url"], "SELECT what FROM kept") == "before the kill"
    assert not set(killed["children"].values()) & {process.pid for process in platform.processes()}
    assert len(marked(platform.home)) == 1, "the API"
    os.kill(again["supervisor"]["pid"], signal.SIGKILL)
    platform.down()


def test_of_two_that_start_at_once_one_wins_and_another_place_has_a_platform_of_its_own(
    make_platform: Callable[..., Platform],
) -> None:
    one, other = make_platform("one"), make_platform("other")
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: one.run("up", "--detach", SERVICES), range(2)))
    assert sorted(done.returncode for done in both) == [0, 1]
    assert any("it is just starting or stopping" in done.stderr for done in both)
    assert len(marked(one.home)) == 1, "the API"
    first, second = one.connections(), other.up(SERVICES)
    for key in ("database_url", "redis_url", "api_url"):
        assert first[key] != second[key]
    one.down()
    assert _health(second["api_url"]) == 200
    other.down()


def test_what_is_configured_is_used_and_nothing_is_started_for_it(
    make_platform: Callable[..., Platform], postgres: EmbeddedPostgres, redis_url: str
) -> None:
    database = "configured_elsewhere"
    with contextlib.closing(connect(postgres.database_url("postgres"))) as connection:
        connection.cursor().execute(f"CREATE DATABASE {database}")
    url = postgres.database_url(database)
    platform = make_platform(DATABASE_URL=url.replace("+psycopg2", ""), REDIS_URL=redis_url)
    connections = platform.up(SERVICES)
    assert set(connections["children"]) == {"API"}
    assert connections["redis_url"] == redis_url
    assert not (platform.home / "postgres").exists()
    assert not (platform.home / "redis").exists()
    assert _one(url, "SELECT count(*) FROM videos") == 0
    assert _one(f"{url}_dagster", "SELECT current_database()") == f"{database}_dagster"
    assert _health(connections["api_url"]) == 200
    platform.down()


@pytest.mark.parametrize(
    ("name", "url"),
    [("DATABASE_URL", "postgresql://a:secret@127.0.0.1:1/x"), ("REDIS_URL", "redis://:secret@127.0.0.1:1/0")],
)
def test_a_configured_service_that_is_away_is_said_so(platform: Platform, name: str, url: str) -> None:
    platform.environment[name] = url
    failed = platform.run("up", "--detach", SERVICES)
    assert failed.returncode == 1
    assert f"of {name} does not answer" in failed.stderr
    assert "unset it to use an embedded" in failed.stderr
    assert "secret" not in failed.stderr
    assert platform.processes() == []


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_that_names_who_has_it(platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        platform.environment["BACKEND_PORT"] = str(port)
        failed = platform.run("up", "--detach", SERVICES)
    assert failed.returncode == 1
    assert f"Port {port} (BACKEND_PORT) is taken by" in failed.stderr
    assert f"(pid {os.getpid()})" in failed.stderr


def test_a_usual_port_that_is_taken_is_replaced_and_the_other_kept(home: Path) -> None:
    """Nobody set the port: it is only the default of the settings."""
    place = Home(home)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings.model_construct(set(), home=home, backend_port=port)
        plan = make_plan(settings, place, with_dagster=False)
        assert plan.ports["api"] != port
        assert [note.split(" by ")[0] for note in plan.notes] == [f"Port {port} is taken"]
    again = make_plan(settings, place, with_dagster=False)
    assert (again.ports, again.notes) == (plan.ports, [])


def test_a_part_that_does_not_start_is_shown_with_its_log_and_all_is_stopped(platform: Platform) -> None:
    platform.environment["BACKEND_HOST"] = "0.0.0.0"  # noqa: S104  # to be refused
    failed = platform.run("up", "--detach", SERVICES)
    assert failed.returncode == 1
    assert "API ended (exit code 1). The end of its log:" in failed.stderr
    assert "must not be reached from other machines" in failed.stderr
    assert str(platform.home / "logs" / "api.log") in failed.stderr
    assert platform.processes() == []
    assert not read_json(platform.home / "connections.json")


def test_a_data_directory_that_can_not_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failed = Platform(tmp_path / "file" / "home", usual_ports=True).run("up", "--detach", SERVICES)
    assert failed.returncode == 1
    assert "Point VIDEOMOMENTS_HOME to a directory you can write." in failed.stderr
    assert "Traceback" not in failed.stderr
