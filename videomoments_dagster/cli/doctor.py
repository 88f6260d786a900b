"""`videomoments doctor`: what this machine has and lacks. What is looked at is in stack/health.py."""

from dataclasses import asdict
from typing import Annotated

import typer

from videomoments_dagster.cli.output import console, print_json
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.health import examine

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "missing": "[red]✗[/]"}


def doctor(json_output: Annotated[bool, typer.Option("--json", help="As a JSON list")] = False) -> None:
    """Say what this machine has and lacks, and what to do about it.

    Exit code 1 when something is missing that the platform needs.
    """
    from rich.markup import escape

    findings = []
    for finding in examine(get_settings()):
        findings.append(finding)
        if not json_output:
            console().print(f"{_MARKS[finding.state]} {finding.subject:<20} {escape(finding.found)}", soft_wrap=True)
            if finding.hint:
                console().print(f"  {'':<20} → {escape(finding.hint)}", soft_wrap=True)
    if json_output:
        print_json([asdict(finding) for finding in findings])
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)
