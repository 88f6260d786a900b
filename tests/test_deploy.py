"""deploy/ and docs/scaling.md, as far as a machine can hold them to their word without being a systemd host."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis as redis_client

from tests.deployment import (
    DEPLOY,
    ENVIRONMENT_EXAMPLE,
    INSTALLED,
    ROOT,
    STATE,
    UNITS,
    read_environment,
    read_unit,
    shell_commands,
    understood,
    with_optional_settings,
)
from tests.stack.platforms import Watched
from tests.storage import bucket_server
from tests.tls import tls_in_front_of
from tests.workers.site import until
from videomoments_dagster.defs.policies import pool_limits
from videomoments_dagster.requests.workers import WorkerRegistry
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.stack.ports import free_port
from videomoments_dagster.stack.process_table import marked

SETTINGS = {str(field.alias): field for field in Settings.model_fields.values()}
EXAMPLE = ENVIRONMENT_EXAMPLE.read_text()
DOCUMENTS = [DEPLOY / "README.md", ROOT / "docs" / "scaling.md"]
STOP_MARGIN_SECONDS = 30
"""What a stop may take beyond the grace time: the supervisor's other parts, and messages to a slow Redis."""
_ORDINARY = {"install", "journalctl", "ln", "set", ".", "export", "useradd"}


def test_there_is_a_unit_for_the_platform_for_a_worker_and_for_a_worker_of_another_queue() -> None:
    assert UNITS == ["videomoments-worker.service", "videomoments-worker@.service", "videomoments.service"]
    assert [read_unit(name, "gpu")["Service.ExecStart"] for name in UNITS] == [
        [f"{INSTALLED}videomoments worker"],
        [f"{INSTALLED}videomoments worker --queues gpu"],
        [f"{INSTALLED}videomoments up"],
    ]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_there_is(name: str) -> None:
    [line] = read_unit(name, "gpu")["Service.ExecStart"]
    program, *arguments = line.split()
    assert program == f"{INSTALLED}videomoments"
    understood(arguments)


@pytest.mark.parametrize("name", UNITS)
def test_a_stop_reaches_the_main_process_alone_and_waits_longer_than_the_grace_time(name: str) -> None:
    """With systemd's default every process of a run would hear SIGTERM, and one media process out of memory would be
    the end of all."""
    unit = read_unit(name)
    assert unit["Service.KillMode"] == ["mixed"]
    assert unit["Service.OOMPolicy"] == ["continue"]
    assert unit["Service.Restart"] == ["on-failure"]
    [timeout] = unit["Service.TimeoutStopSec"]
    allowed = read_environment(EXAMPLE)["VIDEOMOMENTS_WORKER_GRACE_SECONDS"]
    longest = max(float(allowed), SETTINGS["VIDEOMOMENTS_WORKER_GRACE_SECONDS"].default)
    assert float(timeout) >= longest + STOP_MARGIN_SECONDS


def test_units_differ_in_what_they_are_for_and_in_nothing_else() -> None:
    own = {"ExecStart", "Environment", "EnvironmentFile", "StateDirectory", "WorkingDirectory", "Description", "After"}
    common = [{key: value for key, value in read_unit(name).items() if key.split(".")[1] not in own} for name in UNITS]
    assert common[0] == common[1] == common[2]


def test_units_on_one_host_share_no_data_directory() -> None:
    homes = []
    for name in UNITS:
        unit = read_unit(name, "gpu")
        [state], [assigned] = unit["Service.StateDirectory"], unit["Service.Environment"]
        assert assigned == f"VIDEOMOMENTS_HOME={STATE}{state}"
        assert unit["Service.WorkingDirectory"] == [f"{STATE}{state}"]
        homes.append(assigned)
    assert len(set(homes)) == len(UNITS)
    assert "VIDEOMOMENTS_HOME" not in read_environment(with_optional_settings(EXAMPLE)), "it would outdo the units'"


def test_where_systemd_is_it_finds_nothing_to_say(tmp_path: Path) -> None:
    """Where it is not, the units are at least those that were verified: what they say is well-formed."""
    files = []
    for name in UNITS:
        files.append(tmp_path / name.replace("@", "@gpu"))
        files[-1].write_text((DEPLOY / name).read_text().replace(f"{INSTALLED}videomoments", sys.executable))
        assert {key.split(".")[0] for key in read_unit(name)} == {"Unit", "Service", "Install"}
    if program := shutil.which("systemd-analyze"):
        done = subprocess.run([program, "verify", "--man=no", *files], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("text", [EXAMPLE, with_optional_settings(EXAMPLE)], ids=["as it is", "with all options"])
def test_the_example_s_variables_are_settings_and_their_values_are_accepted(
    text: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = read_environment(text)
    assert variables.keys() <= SETTINGS.keys()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    settings = get_settings()
    assert settings.model_fields_set == {
        field for field, about in Settings.model_fields.items() if about.alias in {*variables, "VIDEOMOMENTS_HOME"}
    }
    assert settings.gcs_bucket_name and settings.redis_url.startswith("rediss://")
    assert settings.dagster_database_url != settings.database_url
    assert pool_limits(settings)["transcription"] == settings.max_concurrent_runs


def test_systemd_and_a_shell_read_the_same_from_the_example(tmp_path: Path) -> None:
    path = tmp_path / "videomoments.env"
    path.write_text(with_optional_settings(EXAMPLE))
    shell = subprocess.run(
        ["sh", "-c", 'set -a; . "$0"; exec env -0', path], env={}, capture_output=True, text=True, check=True
    )
    seen = dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)
    assert read_environment(path.read_text()).items() <= seen.items()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_settings_and_files_that_there_are(document: Path) -> None:
    text = document.read_text()
    named = set(re.findall(r"\b(?:VIDEOMOMENTS|DATABASE|DAGSTER|REDIS|GCS|BACKEND)_[A-Z_]+\b", text))
    assert named and named <= SETTINGS.keys()
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text)
    assert links and [link for link in links if not (document.parent / link).exists()] == []


def test_every_file_of_deploy_is_told_about() -> None:
    text = (DEPLOY / "README.md").read_text()
    assert [path.name for path in DEPLOY.iterdir() if path.name != "README.md" and f"`{path.name}`" not in text] == []


def test_every_command_of_the_steps_exists() -> None:
    commands = shell_commands((DEPLOY / "README.md").read_text())
    assert {"make", "systemctl", "videomoments"} <= {words[0] for words in commands}
    makefile = (ROOT / "Makefile").read_text()
    for program, *arguments in commands:
        files = [word for word in arguments if word.startswith("deploy/")]
        assert [file for file in files if not (ROOT / file).is_file()] == []
        if program == "videomoments":
            understood(arguments)
        elif program == "make":
            assert f"\n{arguments[0]}:" in makefile
        elif program == "systemctl":
            units = [word for word in arguments[1:] if not word.startswith("-")]
            assert [unit for unit in units if re.sub("@.+", "@", unit) + ".service" not in UNITS] == []
        else:
            assert program in _ORDINARY


def test_the_pools_are_as_told() -> None:
    told = re.findall(r"^\| `(\w+)` \| (\d+) \|$", (ROOT / "docs" / "scaling.md").read_text(), re.MULTILINE)
    defaults = Settings.model_construct(
        **{name: Settings.model_fields[name].default for name in ("clip_processes", "pool_limits")}
    )
    assert {pool: int(slots) for pool, slots in told} == pool_limits(defaults)


class _Host:
    """A machine of the example: `environment_files` by path, and nothing else in the environment but what systemd
    sets. What the units keep below /var/lib is in `directory`."""

    def __init__(self, directory: Path, environment_files: dict[str, str]) -> None:
        self.directory, self.environment_files = directory, environment_files

    def environment(self, name: str, instance: str = "") -> dict[str, str]:
        unit = read_unit(name, instance)
        variables = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        for assigned in unit["Service.Environment"]:
            variables |= read_environment(assigned.replace(STATE, f"{self.directory}/"))
        for path in unit["Service.EnvironmentFile"]:
            assert path in self.environment_files
            variables |= read_environment(self.environment_files[path])
        return variables

    @contextmanager
    def started(self, name: str, instance: str = "") -> "Iterator[subprocess.Popen[str]]":
        unit = read_unit(name, instance)
        [line], [state] = unit["Service.ExecStart"], unit["Service.StateDirectory"]
        (self.directory / state).mkdir(parents=True)
        argv = line.replace(INSTALLED, f"{Path(sys.executable).parent}/").split()
        environment = self.environment(name, instance)
        with subprocess.Popen(
            argv, env=environment, cwd=self.directory / state, stderr=subprocess.PIPE, text=True
        ) as it:
            try:
                yield it
            finally:
                it.kill()


@pytest.fixture
def host(
    fresh_database_url: str, empty_database_url: str, redis_url: str, redis: "redis_client.Redis", tmp_path: Path
) -> "Iterator[_Host]":
    """The example, but for where the services are. Redis speaks TLS there as well."""
    address = urlsplit(redis_url)
    with ExitStack() as stack:
        front = stack.enter_context(tls_in_front_of(address.port or 0, tmp_path))
        bucket = stack.enter_context(bucket_server.running())
        variables = {
            "DATABASE_URL": fresh_database_url,
            "DAGSTER_DATABASE_URL": empty_database_url,
            "REDIS_URL": f"rediss://default:{address.password}@localhost:{front.port}/0?ssl_ca_certs={front.authority}",
            "GCS_BUCKET_NAME": bucket_server.BUCKET,
            "STORAGE_EMULATOR_HOST": bucket.url,
            "BACKEND_PORT": str(free_port()),
            "DAGSTER_PORT": str(free_port()),
            "VIDEOMOMENTS_WORKER_PROCESSES": "0",
        }
        here = "\n".join(f'{name}="{value}"' for name, value in variables.items())
        yield _Host(
            tmp_path,
            {
                "/etc/videomoments/videomoments.env": f"{EXAMPLE}\n{here}",
                "-/etc/videomoments/worker-gpu.env": "VIDEOMOMENTS_WORKER_PROCESSES=1",
            },
        )


def _workers(environment: dict[str, str]) -> Any:
    argv = [sys.executable, "-m", "videomoments_dagster.cli.main", "workers", "--json"]
    done = subprocess.run(argv, env=environment, capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_units_start_a_platform_and_a_worker_of_a_queue_and_stop_them_with_sigterm(
    host: _Host, redis: "redis_client.Redis"
) -> None:
    with host.started("videomoments.service") as platform:
        Watched(platform).until("Ctrl-C stops it")
        operator = host.environment("videomoments.service")
        assert _workers(operator) == [], "VIDEOMOMENTS_WORKER_PROCESSES=0: none on this host"
        with host.started("videomoments-worker@.service", "gpu") as worker:
            until(lambda: WorkerRegistry(redis).living() or worker.poll() is not None, seconds=60)
            [listed] = _workers(operator)
            assert (listed["pid"], listed["queues"], listed["processes"]) == (worker.pid, ["gpu"], 1)
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=30)
        assert worker.returncode == 0
        assert _workers(operator) == []
        platform.send_signal(signal.SIGTERM)
        platform.communicate(timeout=60)
    assert platform.returncode == 0
    assert marked(Path(operator["VIDEOMOMENTS_HOME"])) == []
