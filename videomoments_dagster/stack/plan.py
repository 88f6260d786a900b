"""What a platform consists of for given settings: the parts, what each needs first, and their addresses.

What is configured from outside is checked and used, and nothing is started for it.
"""

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psycopg2
from redis import Redis
from redis.exceptions import RedisError

from videomoments_dagster.errors import Conflict, ServiceUnavailable
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack import ports, probes
from videomoments_dagster.stack.child import Child, Program
from videomoments_dagster.stack.files import read_json, write_private_json
from videomoments_dagster.stack.home import Home
from videomoments_dagster.stack.postgres import DAGSTER_DATABASE, EmbeddedPostgres, create_database
from videomoments_dagster.stack.process_table import MARK
from videomoments_dagster.stack.redis import EmbeddedRedis

POSTGRESQL, REDIS, SCHEMA, CODE, STORAGE = "PostgreSQL", "Redis", "Schema", "Code server", "Dagster storage"
WORKER = "Worker"
_WEB_GRACE_SECONDS, _DAEMON_GRACE_SECONDS = 5.0, 12.0


@dataclass(slots=True)
class Part:
    """A child and the names of those that must be ready before it begins."""

    child: Child
    needs: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    """The parts in the order they start, and where the platform will answer."""

    settings: Settings
    home: Home
    with_dagster: bool
    postgres: EmbeddedPostgres | None = None
    redis: EmbeddedRedis | None = None
    ports: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        return self.postgres.url if self.postgres else self.settings.database_url

    @property
    def dagster_database_url(self) -> str:
        if self.postgres and self.home.is_embedded(self.settings.configured_dagster_database_url):
            return self.postgres.database_url(DAGSTER_DATABASE)
        return self.settings.dagster_database_url

    @property
    def redis_url(self) -> str:
        return self.redis.url if self.redis else self.settings.redis_url

    @property
    def api_host(self) -> str:
        """Where this machine reaches the API: one that listens everywhere listens on loopback."""
        host = self.settings.backend_host
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104

    @property
    def api_url(self) -> str:
        host = f"[{self.api_host}]" if ":" in self.api_host else self.api_host
        return f"http://{host}:{self.ports['api']}"

    @property
    def dagster_url(self) -> str | None:
        return f"http://127.0.0.1:{self.ports['dagster']}" if self.with_dagster else None

    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to belong to this platform."""
        return {
            "VIDEOMOMENTS_HOME": str(self.home.path),
            "DATABASE_URL": self.database_url,
            "DAGSTER_DATABASE_URL": self.dagster_database_url,
            "REDIS_URL": self.redis_url,
            "DAGSTER_HOME": str(self.home.dagster),
            "BACKEND_PORT": str(self.ports["api"]),
            "DAGSTER_PORT": str(self.ports["dagster"]),
            "VIDEOMOMENTS_PUBLIC_URL": self.settings.configured_public_url or self.api_url,
            "VIDEOMOMENTS_MAX_CONCURRENT_RUNS": str(self.settings.max_concurrent_runs),
        }

    def environment(self) -> Mapping[str, str]:
        """The environment of our children; the mark goes on to theirs."""
        return {
            **os.environ,
            **self.variables(),
            MARK: str(self.home.path),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",  # `python -m` would import from the directory the user happens to stand in
        }


def make_plan(settings: Settings, home: Home, *, with_dagster: bool) -> Plan:
    """Choose ports, check what is configured, line up the parts. Raises Conflict, ServiceUnavailable."""
    plan = Plan(settings, home, with_dagster)
    plan.ports = _choose_ports(plan)
    if home.is_embedded(settings.configured_database_url):
        plan.postgres = home.postgres()
        plan.parts.append(Part(plan.postgres))
    else:
        _check_database(plan)
    if home.is_embedded(settings.configured_redis_url):
        plan.redis = home.redis()
        plan.parts.append(Part(plan.redis))
    else:
        _check_redis(settings.redis_url)
    database = (POSTGRESQL,) if plan.postgres else ()
    redis = (REDIS,) if plan.redis else ()
    if with_dagster:
        plan.parts += [Part(_code_server(plan), database), Part(_DagsterStorage(plan), database)]
    plan.parts.append(Part(_step(plan, SCHEMA, "videomoments_dagster.stack.schema"), database))
    plan.parts.append(Part(_api(plan), (*database, *redis)))
    if with_dagster:
        plan.parts.append(Part(_webserver(plan), (STORAGE, CODE)))
        plan.parts.append(Part(_Daemon(plan), (STORAGE, CODE, SCHEMA, *redis)))
    if settings.worker_processes:
        plan.parts.append(Part(_worker(plan), (SCHEMA, *((STORAGE,) if with_dagster else ()), *redis)))
    return plan


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "videomoments_dagster.stack.start", module, *arguments]


def _dagster(process: str, module: str, *arguments: str) -> list[str]:
    """A program of Dagster's that logs as ours do."""
    return _python("videomoments_dagster.defs.logs", process, module, *arguments)


def _log(plan: Plan, name: str) -> Path:
    return plan.home.logs / f"{name.lower().replace(' ', '-')}.log"


def _step(plan: Plan, name: str, *arguments: str) -> Program:
    return Program(name, _python(*arguments), log=_log(plan, name), environment=plan.environment)


def _api(plan: Plan) -> Program:
    host, port = plan.settings.backend_host, plan.ports["api"]
    return Program(
        "API",
        _python("api", "--host", host, "--port", str(port)),
        log=_log(plan, "API"),
        environment=plan.environment,
        probe=lambda: probes.http_answers(port, "/health/live", plan.api_host),
        address=plan.api_url,
        grace_seconds=_WEB_GRACE_SECONDS,
    )


def _code_server(plan: Plan) -> Program:
    """One process loads the definitions for the daemon and the webserver. It has nothing to finish, so it is killed."""
    port = plan.ports["code"]
    options = ["--module-name", "videomoments_dagster.definitions", "--location-name", "videomoments"]
    options += ["--host", "127.0.0.1", "--port", str(port), "--use-python-environment-entry-point"]
    return Program(
        CODE,
        _dagster("code-server", "dagster", "api", "grpc", *options, "--empty-working-directory"),
        log=_log(plan, CODE),
        environment=plan.environment,
        probe=lambda: probes.accepts(port),
        stop_signal=signal.SIGKILL,
    )


def _worker(plan: Plan) -> Program:
    """This host's worker. Without Dagster (for `dagster dev`) it reads the code anew for every run."""
    arguments = [] if plan.with_dagster else ["--reload"]
    program = Program(
        WORKER,
        _python("videomoments_dagster.defs.workers.worker", *arguments),
        log=_log(plan, WORKER),
        environment=plan.environment,
        probe=lambda: probes.worker_announced(plan.redis_url, program.process.pid if program.process else 0),
        grace_seconds=plan.settings.worker_grace_seconds + _WEB_GRACE_SECONDS,
    )
    return program


def _webserver(plan: Plan) -> Program:
    port = plan.ports["dagster"]
    options = ["-h", "127.0.0.1", "-p", str(port), "-w", str(_workspace(plan))]
    return Program(
        "Dagster UI",
        _dagster("dagster-ui", "dagster_webserver", *options),
        log=_log(plan, "Dagster UI"),
        environment=plan.environment,
        probe=lambda: probes.http_answers(port, "/server_info"),
        address=plan.dagster_url,
        grace_seconds=_WEB_GRACE_SECONDS,
    )


class _Daemon(Program):
    """The Dagster daemon; well when its loops have written a heartbeat since it began."""

    def __init__(self, plan: Plan) -> None:
        # At "info" it writes a line a run each time it looks after the workers.
        argv = _python("videomoments_dagster.defs.daemon", "run", "-w", str(_workspace(plan)), "--log-level", "warning")
        super().__init__(
            "Dagster daemon",
            argv,
            log=_log(plan, "Dagster daemon"),
            environment=plan.environment,
            probe=lambda: probes.daemon_beats(plan.dagster_database_url, self._begun),
            grace_seconds=_DAEMON_GRACE_SECONDS,
        )
        self._begun: datetime = probes.now()

    def begin(self) -> None:
        self._begun = probes.now()
        super().begin()


class _DagsterStorage(Program):
    """Dagster's tables and pool limits.

    When the tables are there already, nobody needs to wait for it.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(STORAGE, [], log=_log(plan, STORAGE), environment=plan.environment)
        self._plan = plan

    def begin(self) -> None:
        url = self._plan.dagster_database_url
        made = probes.dagster_tables(url)
        self._current = made and probes.dagster_schema_is_current(url)
        migrates = made and not self._current
        self.argv = _python("videomoments_dagster.defs.startup", *(["--migrate"] if migrates else []))
        self.satisfied_early = self._current
        super().begin()

    def answers(self) -> bool:
        done = super().answers()
        if done and not self._current:
            probes.note_dagster_schema(self._plan.dagster_database_url)
        return done


def _workspace(plan: Plan) -> Path:
    """A workspace that names the one code server; the location's name is part of what Dagster keeps of each sensor."""
    path = plan.home.dagster / "workspace.yaml"
    path.write_text(
        "load_from:\n  - grpc_server:\n      host: 127.0.0.1\n"
        f"      port: {plan.ports['code']}\n      location_name: videomoments\n"
    )
    return path


def _choose_ports(plan: Plan) -> dict[str, int]:
    """The ports of last time when free, else the usual ones, else any. One set by the user is an order."""
    settings, kept = plan.settings, read_json(plan.home.ports)
    wanted = {"api": ("backend_port", settings.backend_host)}
    chosen: dict[str, int] = {}
    if plan.with_dagster:
        wanted |= {"dagster": ("dagster_port", "127.0.0.1"), "code": (None, "127.0.0.1")}
    else:
        chosen["dagster"] = settings.dagster_port  # of the user's own `dagster dev`
    for name, (setting, host) in wanted.items():
        usual = int(getattr(settings, setting)) if setting else 0
        if setting in settings.model_fields_set and usual:
            if not ports.is_free(usual, host):
                by = ports.holder(usual) or "another program"
                raise Conflict(
                    f"Port {usual} ({Settings.model_fields[setting].alias}) is taken by {by}.",
                    hint="Set another port, or unset it to have a free one chosen.",
                )
            chosen[name] = usual
            continue
        last = int(kept.get(name) or 0)
        candidates = [port for port in (last, usual) if port and port not in chosen.values()]
        chosen[name] = next((port for port in candidates if ports.is_free(port, host)), 0) or ports.free_port(host)
        if usual and chosen[name] not in {usual, last}:
            by = ports.holder(usual) or "another program"
            plan.notes.append(f"Port {usual} is taken by {by}: using {chosen[name]} instead.")
    write_private_json(plan.home.ports, kept | chosen)
    return chosen


def _check_database(plan: Plan) -> None:
    """A configured PostgreSQL answers, and Dagster has a database of its own there, made if need be."""
    database = plan.settings.database_url.partition("?")[0].rpartition("/")[2]
    target = plan.settings.dagster_database_url
    name = target.partition("?")[0].rpartition("/")[2]
    try:
        create_database(target, maintenance=database)
        probes.ping_database(plan.settings.database_url)
    except psycopg2.errors.InsufficientPrivilege as error:
        raise ServiceUnavailable(
            f"The database {name} for Dagster's own tables is missing, and the user of DATABASE_URL may not make it.",
            hint=f"As an administrator: CREATE DATABASE {name}; or set DAGSTER_DATABASE_URL to another database.",
        ) from error
    except psycopg2.OperationalError as error:
        raise ServiceUnavailable(
            f"PostgreSQL of DATABASE_URL does not answer: {str(error).strip().splitlines()[0]}",
            hint="Start it or correct DATABASE_URL; unset it to use an embedded PostgreSQL.",
        ) from error


def _check_redis(url: str) -> None:
    try:
        with closing(Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)) as client:
            client.ping()
    except (RedisError, ValueError) as error:
        raise ServiceUnavailable(
            f"Redis of REDIS_URL does not answer: {error}",
            hint="Start it or correct REDIS_URL; unset it to use an embedded Redis.",
        ) from error
