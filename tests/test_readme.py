"""The README is what people trust first: what it lists must be what there is."""

import re
from pathlib import Path

from videomoments_dagster.cli.main import COMMANDS
from videomoments_dagster.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_setting_is_listed_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README, re.MULTILINE))
    fields = {str(field.alias): field for field in Settings.model_fields.values()}
    assert set(listed) == set(fields)
    for alias, field in fields.items():
        if alias not in {"VIDEOMOMENTS_SPEECH_PROCESSES", "VIDEOMOMENTS_WORKER_PROCESSES"}:  # the number of cores
            assert listed[alias] == ("" if field.default is None else str(field.default)), alias


def test_every_command_is_listed() -> None:
    assert [name for name in COMMANDS if f"`{name}" not in README and f"videomoments {name}" not in README] == []


def test_continuous_integration_runs_exactly_the_two_commands() -> None:
    [block] = re.findall(r"## Two commands.*?```sh\n(.*?)```", README, re.DOTALL)
    promised = [line.split("#")[0].strip() for line in block.splitlines()]
    run = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    assert promised == run == ["make demo", "make test"]


def test_the_picture_and_every_linked_file_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_every_decision_names_tests_that_are_there() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert decisions
    for decision in decisions:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", decision.read_text())
        assert named, decision.name
        for file, test in named:
            assert (ROOT / file).is_file() and f"def {test}" in (ROOT / file).read_text(), (decision.name, file, test)
