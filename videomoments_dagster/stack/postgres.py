"""An embedded PostgreSQL: makes the cluster once, then runs the server on it as our child.

It knows the names of the two databases and makes them; what is in them is for the migrations.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg2
from psycopg2 import sql

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.stack.binaries import find_postgres
from videomoments_dagster.stack.identity import Identity, unprivileged
from videomoments_dagster.stack.process_table import holders, kill_all, wait_gone
from videomoments_dagster.stack.server import EmbeddedServer

USER = "videomoments"
DATABASE, DAGSTER_DATABASE = "videomoments", "videomoments_dagster"
_FAST = ("fsync=off", "full_page_writes=off")
_BUILTIN_LOCALE_SINCE = 17


class EmbeddedPostgres(EmbeddedServer):
    """A cluster in `directory`/cluster. `fast` gives up durability, for tests."""

    name = "PostgreSQL"
    stop_signal = death_signal = signal.SIGINT  # "fast": roll back, disconnect, write everything down

    def __init__(self, directory: Path, *, log: Path | None = None, fast: bool = False) -> None:
        super().__init__(directory, log=log)
        self.fast = fast
        self._databases_made = False

    @property
    def data(self) -> Path:
        return self.directory / "cluster"

    @property
    def url(self) -> str:
        return self.database_url(DATABASE)

    def database_url(self, database: str) -> str:
        """SQLAlchemy URL of `database`, its driver written out."""
        return f"postgresql+psycopg2://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def identity(self) -> Identity:
        return unprivileged()

    def evict(self) -> None:
        """Stop what an earlier, killed supervisor left here, then drop the lock file that nobody holds any more.

        The server's own check of postmaster.pid takes an unreaped zombie for a live server and refuses for ever.
        """
        lock = self.data / "postmaster.pid"
        left = holders(self.data)
        if left:
            with contextlib.suppress(OSError, ValueError):
                postmaster = int(lock.read_text().split("\n")[0])
                if any(process.pid == postmaster for process in left):
                    os.kill(postmaster, self.stop_signal)
            kill_all(wait_gone(left, timeout_seconds=self.grace_seconds))
        lock.unlink(missing_ok=True)

    def prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            self.identity().own(self.data)
        else:
            self._make_cluster()

    def command(self) -> list[str]:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "timezone": "UTC",
            "log_min_error_statement": "panic",  # statements and details quote values, which may be secret
            "log_error_verbosity": "terse",
        }
        settings = [f"{name}={value}" for name, value in options.items()]
        settings += _FAST if self.fast else ()
        program = str(find_postgres().directory / "postgres")
        return [program, "-D", str(self.data), *(part for setting in settings for part in ("-c", setting))]

    def answers(self) -> bool:
        """Whether it answers, and has both databases."""
        try:
            with contextlib.closing(connect(self.database_url("postgres"))) as connection:
                connection.cursor().execute("SELECT 1")
            if not self._databases_made:
                for database in (DATABASE, DAGSTER_DATABASE):
                    create_database(self.database_url(database), maintenance="postgres")
                self._databases_made = True
        except psycopg2.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """First SIGQUIT, "immediate": the backends go too, and the next start replays the log."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            super().kill()

    def _check_version(self) -> None:
        data = (self.data / "PG_VERSION").read_text().strip()
        binaries = find_postgres()
        if data != str(binaries.major):
            raise ServiceUnavailable(
                f"The data in {self.data} was written by PostgreSQL {data}; installed is {binaries.major}.",
                hint=f"Set VIDEOMOMENTS_POSTGRES_BIN to the bin directory of a PostgreSQL {data} and dump the data "
                f"with its pg_dumpall, or move the directory away to start empty.",
            )

    def _make_cluster(self) -> None:
        """initdb beside the final place, then one rename: a kill in between leaves nothing that looks finished."""
        binaries, identity = find_postgres(), self.identity()
        making = self.directory / "cluster.making"
        shutil.rmtree(making, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        making.mkdir(mode=0o700)
        secret = making.with_suffix(".password")
        secret.unlink(missing_ok=True)
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if identity.owner:
            os.chown(secret, *identity.owner)
        identity.own(making)
        locale = ["--locale=C.UTF-8"]
        if binaries.major >= _BUILTIN_LOCALE_SINCE:  # needs none of the machine's locales
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        argv = [str(binaries.directory / "initdb"), "-D", str(making), "-U", USER, "-A", "scram-sha-256"]
        argv += [f"--pwfile={secret}", "--encoding=UTF8", *locale, *(["--no-sync"] if self.fast else [])]
        try:
            made = subprocess.run(
                identity.command(argv, death_signal=signal.SIGKILL),
                capture_output=True,
                text=True,
                cwd=making,
                env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
                timeout=180,
                check=False,
            )
        finally:
            secret.unlink()
        if made.returncode:
            raise ServiceUnavailable(
                f"PostgreSQL could not make its data directory {making}.\n{made.stderr[-800:].strip()}",
                hint="Check that the disk has 100 MB free and that the directory can be written.",
            )
        making.replace(self.data)


def connect(url: str) -> "psycopg2.extensions.connection":
    """A psycopg2 connection that commits by itself, for an SQLAlchemy URL."""
    connection = psycopg2.connect(url.replace("+psycopg2", "", 1), connect_timeout=5)
    connection.autocommit = True
    return connection


def create_database(url: str, *, maintenance: str) -> bool:
    """Make the database that `url` names, through the database `maintenance` of the same server.

    Returns whether it was missing. Another process may make it first: that is fine.
    """
    place, question, options = url.partition("?")
    address, _, name = place.rpartition("/")
    with contextlib.closing(connect(f"{address}/{maintenance}{question}{options}")) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if cursor.fetchone():
            return False
        with contextlib.suppress(psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return True
