"""The files of deploy/ as systemd, shells and the command line read them."""

import re
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from videomoments_dagster.cli.main import load

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
ENVIRONMENT_EXAMPLE = DEPLOY / "videomoments.env.example"
UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))
INSTALLED, STATE = "/opt/videomoments/.venv/bin/", "/var/lib/"
"""Where the units expect the code, and where systemd keeps what they write."""


def read_unit(name: str, instance: str = "") -> dict[str, list[str]]:
    """`Section.Key` to its values in order, `%i` filled in: a key may be repeated."""
    settings: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in (DEPLOY / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and line[0] not in "#;":
            key, assigned, value = line.partition("=")
            assert section and assigned, line
            settings[f"{section}.{key}"].append(value.replace("%i", instance))
    return dict(settings)


def read_environment(text: str) -> dict[str, str]:
    """An EnvironmentFile= as systemd reads it, as far as ours go: no escapes, one line each."""
    pairs = [line.split("=", 1) for line in text.splitlines() if line and line[0] != "#"]
    return {name: re.sub(r"^(['\"])(.*)\1$", r"\2", value) for name, value in pairs}


def with_optional_settings(text: str) -> str:
    """As if every `#NAME=value` had been wanted."""
    return re.sub(r"^#(?=[A-Z_]+=)", "", text, flags=re.MULTILINE)


def shell_commands(markdown: str) -> list[list[str]]:
    """The words of each command in the ```sh blocks, without `sudo`."""
    blocks = re.findall(r"^ *```sh\n(.*?)```", markdown, re.MULTILINE | re.DOTALL)
    parts = [part for block in blocks for line in block.splitlines() for part in line.split("; ")]
    return [words[words[0] == "sudo" :] for part in parts if (words := shlex.split(part, comments=True))]


def understood(arguments: list[str]) -> Any:
    """The command that `videomoments ARGUMENTS` means. Raises what the command line says to options it lacks."""
    name, *rest = arguments
    command = load(name)
    if isinstance(command, TyperGroup):
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, rest)
    return command
