"""What this machine and platform have and lack, one finding a subject, each with what to do."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil
import psycopg2
from redis.exceptions import RedisError

from videomoments_dagster.errors import ServiceUnavailable, VideoMomentsError
from videomoments_dagster.models.registry import ModelRegistry
from videomoments_dagster.redis_connection import connect as connect_redis
from videomoments_dagster.requests.workers import WorkerRegistry
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack import binaries, identity, ports
from videomoments_dagster.stack.home import Home
from videomoments_dagster.stack.postgres import connect
from videomoments_dagster.storage.factory import open_store

_NEEDED_DISK_BYTES, _NEEDED_MEMORY_BYTES = 5 * 1024**3, 2 * 1024**3
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok` is fine, `warning` works but may not for long, `missing` stops something. `hint` says what to do."""

    subject: str
    state: Literal["ok", "warning", "missing"]
    found: str
    hint: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, in the order they depend on each other. Starts nothing but `--version` of the servers."""
    home = Home(settings.home)
    for look in (_python, _packages, _user):
        yield look()
    for look_at in (_home, _disk, _running):
        yield look_at(home)
    yield _memory()
    yield from _postgres(settings, home)
    yield from _redis(settings, home)
    yield _store(settings)
    yield from _ports(settings, home)
    yield _ffmpeg()
    yield _speech()


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("Python", "missing", found, "Install Python 3.11 or newer and run `make install` again.")
    return Finding("Python", "ok", found)


def _packages() -> Finding:
    found, lacking = [], []
    for package in ("dagster", "dagster-webserver", "dagster-postgres", "sqlalchemy", "fastapi", "av", "videomoments"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lacking.append(package)
    if lacking:
        return Finding("Packages", "missing", f"not installed: {', '.join(lacking)}", "Run `make install`.")
    return Finding("Packages", "ok", ", ".join(found))


def _user() -> Finding:
    try:
        how = identity.unprivileged()
    except ServiceUnavailable as error:
        return Finding("User", "missing", error.message, error.hint)
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    if how.owner:
        return Finding("User", "ok", f"{who}; PostgreSQL runs as uid {how.owner[0]}")
    if how.options:
        return Finding("User", "ok", f"{who}; PostgreSQL runs in a user namespace")
    return Finding("User", "ok", who)


def _home(home: Home) -> Finding:
    place = home.path
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        hint = "Point VIDEOMOMENTS_HOME to a directory you can write."
        return Finding("Data directory", "missing", f"{place} can't be written", hint)
    return Finding(
        "Data directory", "ok", str(home.path) + ("" if place == home.path else " (made at the first start)")
    )


def _disk(home: Home) -> Finding:
    place = home.path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / 1024**3:.1f} GiB free"
    if free < _NEEDED_DISK_BYTES:
        return Finding(
            "Disk", "warning", found, "A video needs about twice its size; free some, or move VIDEOMOMENTS_HOME."
        )
    return Finding("Disk", "ok", found)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = (
        f"{memory.available / 1024**3:.1f} GiB of {memory.total / 1024**3:.1f} GiB available, {os.cpu_count()} cores"
    )
    if memory.available < _NEEDED_MEMORY_BYTES:
        return Finding("Memory", "warning", found, "Set VIDEOMOMENTS_MAX_CONCURRENT_RUNS=1.")
    return Finding("Memory", "ok", found)


def _running(home: Home) -> Finding:
    owner = home.owner()
    if owner is None:
        return Finding("Platform", "ok", "not running; `videomoments up` starts it")
    return Finding("Platform", "ok", f"runs, pid {owner.pid}: {home.addresses() or 'starting or stopping'}")


def _postgres(settings: Settings, home: Home) -> Iterator[Finding]:
    if home.is_embedded(settings.configured_database_url):
        yield _binary("PostgreSQL program", lambda: binaries.find_postgres().directory / "postgres")
        url = home.running().get("database_url")
        if url is None:
            return
    else:
        url = settings.database_url
    try:
        with closing(connect(url)) as connection:
            number = connection.server_version
    except psycopg2.Error as error:
        what = str(error).strip().splitlines()[0]
        yield Finding(
            "PostgreSQL", "missing", what, "Start it or correct DATABASE_URL; unset it to use an embedded one."
        )
        return
    if number // 10000 < binaries.OLDEST_POSTGRES:
        hint = f"Use PostgreSQL {binaries.OLDEST_POSTGRES} or newer."
        yield Finding("PostgreSQL", "missing", f"version {number // 10000}", hint)
    else:
        yield Finding("PostgreSQL", "ok", f"answers, version {number // 10000}.{number % 10000}")


def _redis(settings: Settings, home: Home) -> Iterator[Finding]:
    if home.is_embedded(settings.configured_redis_url):
        yield _binary("Redis program", binaries.find_redis)
        url = home.running().get("redis_url")
        if url is None:
            return
    else:
        url = settings.redis_url
    try:
        with closing(connect_redis(url)) as client:
            number = client.info("server")["redis_version"]  # pyright: ignore[reportIndexIssue]  # typed for both kinds
            living = WorkerRegistry(client).living()
            models = list(_models(ModelRegistry(client, settings), settings))
    except (RedisError, VideoMomentsError, ValueError) as error:
        yield Finding("Redis", "missing", str(error), "Start it or correct REDIS_URL; unset it to use an embedded one.")
        return
    yield Finding("Redis", "ok", f"answers, version {number}")
    if living:
        queues = sorted({queue for worker in living for queue in worker.queues})
        processes = sum(worker.processes for worker in living)
        found = f"{len(living)} with {processes} processes, for the queues {', '.join(queues)}"
        yield Finding("Workers", "ok", found)
    else:
        yield Finding("Workers", "warning", "none: runs wait", "Start one: `videomoments worker`.")
    yield from models


def _models(registry: ModelRegistry, settings: Settings) -> Iterator[Finding]:
    """What remote models need of this host. Whether they answer is `videomoments models check`'s to say."""
    remote = [entry for entry in registry.entries() if entry.is_configured and not entry.is_builtin]
    if not remote:
        yield Finding("Models", "ok", "the builtin ones; docs/models.md says how to use others")
        return
    for entry in remote:
        key_file = Path(entry.ssh_key_file).expanduser() if entry.ssh_key_file else None
        subject, verdict = f"Model {entry.key}", registry.verdict(entry)
        if entry.ssh_host and not settings.ssh_known_hosts.is_file():
            hint = f"ssh-keyscan {entry.ssh_host} >> {settings.ssh_known_hosts}, and compare the key with its operator."
            yield Finding(subject, "missing", f"there is no {settings.ssh_known_hosts}", hint)
        elif key_file and not os.access(key_file, os.R_OK):
            hint = "Correct ssh_key_file, or VIDEOMOMENTS_SSH_KEY_FILE."
            yield Finding(subject, "missing", f"its key file {key_file} can't be read", hint)
        elif verdict is None:
            yield Finding(subject, "ok", "configured, not checked", f"`videomoments models check {entry.key}` asks it.")
        elif not verdict.trusted:
            hint = f"Mend its server, then `videomoments models check {entry.key}`."
            yield Finding(subject, "warning", verdict.reason, hint)
        else:
            yield Finding(subject, "ok", f"checked {verdict.checked_at[:16]}")


def _binary(subject: str, find: Callable[[], Path]) -> Finding:
    try:
        program = find()
    except ServiceUnavailable as error:
        return Finding(subject, "missing", error.message, error.hint)
    number = binaries.version(program)
    if not number:
        return Finding(subject, "missing", f"{program} does not run on this machine", "Run `make install`.")
    return Finding(subject, "ok", f"{number} at {program}")


def _store(settings: Settings) -> Finding:
    where = f"gs://{settings.gcs_bucket_name}" if settings.gcs_bucket_name else str(settings.objects_directory)
    if not settings.gcs_bucket_name and not settings.home.exists():
        return Finding("Object store", "ok", f"{where} (made at the first start)")
    try:
        open_store(settings).ping()
    except VideoMomentsError as error:
        return Finding("Object store", "missing", f"{where}: {error.message}", error.hint)
    return Finding("Object store", "ok", where)


def _ports(settings: Settings, home: Home) -> Iterator[Finding]:
    if home.owner() is not None:
        return
    for subject, field, host in (
        ("Port of the API", "backend_port", settings.backend_host),
        ("Port of Dagster", "dagster_port", "127.0.0.1"),
    ):
        port = int(getattr(settings, field))
        if ports.is_free(port, host):
            yield Finding(subject, "ok", f"{port} is free")
            continue
        by = ports.holder(port) or "another program"
        if field in settings.model_fields_set:
            name = Settings.model_fields[field].alias
            yield Finding(subject, "missing", f"{port} is taken by {by}", f"Stop it, or change or unset {name}.")
        else:
            yield Finding(subject, "ok", f"{port} is taken by {by}: another is chosen at the start")


def _ffmpeg() -> Finding:
    found = shutil.which("ffmpeg")
    return Finding("FFmpeg", "ok", found or "the libraries inside PyAV (no `ffmpeg` on PATH; none is needed)")


def _speech() -> Finding:
    spec = importlib.util.find_spec("pocketsphinx")
    model = Path(spec.origin).parent / "model" / "en-us" if spec and spec.origin else None
    if model is None or not model.exists():
        return Finding("Speech model", "missing", "the model of builtin_speech is not installed", "Run `make install`.")
    return Finding("Speech model", "ok", f"builtin_speech, English, {model}")
