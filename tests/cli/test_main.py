"""The command line as a program: what it loads, what it answers with, and what becomes of errors. In a process of its
own where that makes a difference: to start one takes as long as most commands.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from videomoments_dagster.cli.main import COMMANDS, load, run
from videomoments_dagster.settings import Settings, get_settings

_SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}
_HEAVY = {"dagster", "pandas", "sqlalchemy", "fastapi", "numpy", "av", "redis", "psycopg2", "pydantic"}


def _run(*arguments: str, home: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
    return subprocess.run(
        [sys.executable, "-m", "videomoments_dagster.cli.main", *arguments],
        env=clean | {"VIDEOMOMENTS_HOME": str(home), "COLUMNS": "120"} | environment,
        capture_output=True,
        text=True,
    )


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same in this process, which nobody types into."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def run_here(*arguments: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setattr(sys, "argv", ["videomoments", *arguments])
        get_settings.cache_clear()
        with pytest.raises(SystemExit) as ended:
            run()
            raise SystemExit(0)
        return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), *capsys.readouterr())

    return run_here


def test_help_lists_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['videomoments', '--help']\n"
        "from videomoments_dagster.cli.main import run\n"
        "try: run()\n"
        "finally: print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f" {name} " in done.stdout for name in COMMANDS)
    assert not _HEAVY & set(done.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_itself_says(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert (command.help or "").strip().startswith(COMMANDS[name][1])


@pytest.mark.parametrize("arguments", [["nonsense"], ["up", "--nonsense"], ["db", "downgrade"], ["status"]])
def test_what_is_not_understood_exits_with_2(arguments: list[str], command: Command) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr


@pytest.mark.parametrize("arguments", [["env"], ["sweep"], ["db", "upgrade"], ["db", "check", "--json"]])
def test_without_a_platform_the_message_says_how_to_start_one(
    arguments: list[str], command: Command, home: Path
) -> None:
    done = command(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"No platform runs in {home}" in done.stderr
    assert "videomoments up --detach" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_short_unless_debugging(tmp_path: Path) -> None:
    """A port that is no number is refused by the settings, before any command can name it."""
    done = _run("env", home=tmp_path, BACKEND_PORT="many")
    assert done.returncode == 1
    assert "BACKEND_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in _run("env", home=tmp_path, VIDEOMOMENTS_DEBUG="1").stderr
    assert "Traceback" not in _run("env", home=tmp_path, VIDEOMOMENTS_DEBUG="0").stderr


def test_the_version_is_the_package_s(tmp_path: Path) -> None:
    done = _run("--version", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "0.1.0\n")


def test_migrations_go_up_and_down(fresh_database_url: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database_url)
    assert command("db", "check").returncode == 0
    refused = command("db", "downgrade", "base")
    assert refused.returncode == 1, "nobody was there to say yes"
    assert "Aborted" in refused.stderr
    assert command("db", "downgrade", "base", "--yes").returncode == 0
    different = command("db", "check", "--json")
    assert different.returncode == 1
    assert len(json.loads(different.stdout)) == 1
    assert "videomoments db upgrade" in different.stderr
    assert command("db", "upgrade").returncode == 0
    assert json.loads(command("db", "check", "--json").stdout) == []


def test_doctor_finds_everything_here(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    done = _run("doctor", "--json", home=tmp_path, DATABASE_URL=postgres_url, REDIS_URL=redis_url)
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert all(finding["state"] != "missing" for finding in findings.values())
    assert findings["PostgreSQL"]["found"].startswith("answers, version 18.")
    assert findings["Redis"]["found"].startswith("answers, version 7.")
    embedded = _run("doctor", home=tmp_path)
    assert embedded.returncode == 0
    assert "PostgreSQL program" in embedded.stdout
    assert "Redis program" in embedded.stdout


def test_doctor_says_what_to_do_about_what_is_missing(tmp_path: Path) -> None:
    away = _run("doctor", "--json", home=tmp_path, DATABASE_URL="postgresql://a:secret@127.0.0.1:1/x")
    assert away.returncode == 1
    missing = [finding for finding in json.loads(away.stdout) if finding["state"] == "missing"]
    assert [finding["subject"] for finding in missing] == ["PostgreSQL"]
    assert "DATABASE_URL" in missing[0]["hint"]
    assert "secret" not in away.stdout
    empty = _run("doctor", home=tmp_path, VIDEOMOMENTS_POSTGRES_BIN=str(tmp_path))
    assert empty.returncode == 1
    assert "holds no PostgreSQL 15 or newer" in empty.stdout
