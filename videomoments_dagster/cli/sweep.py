"""`videomoments sweep`: do rows, files, partitions, Redis and Dagster agree? Runs in this process."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from videomoments_dagster import logs
from videomoments_dagster.cli.instance import use_running_platform
from videomoments_dagster.cli.output import console, print_json
from videomoments_dagster.settings import get_settings

if TYPE_CHECKING:
    from videomoments_dagster.defs.consistency.report import Report


def sweep(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is found; without it nothing is changed")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="--fix, and delete files and partitions that no row names")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="The report as one JSON object")] = False,
) -> None:
    """Find what rows, files, partitions, locks and statuses disagree about, and mend it with --fix.

    --fix deletes no file and no partition; --delete does, but never of many videos: an old or wrong database knows
    too few.

    What belongs to a video that is being processed is left alone, and so is a file younger than an hour that no row
    names. Exit code 1 when something is wrong still.
    """
    use_running_platform()
    if delete:
        logs.configure("sweep", get_settings().log_format)  # each deletion is a line
    from videomoments_dagster.defs.consistency.sweep import sweep_here

    report = sweep_here(fix=fix, delete=delete)
    if json_output:
        print_json({**asdict(report), "total": report.total, "left": report.left})
    else:
        _show(report)
    if report.left:
        raise typer.Exit(1)


def _show(report: "Report") -> None:
    from rich.text import Text

    for found in report.findings:
        mark = Text("✓ ", "green") if found.fixed else Text("✗ ", "red")
        # as Text: in a string, the ":ghost:" of a key would become a picture
        told = f"{found.kind}  {found.name}\n    {found.wrong}\n    {'Done' if found.fixed else 'Fix'}: {found.fix}"
        console().print(mark + Text(told), soft_wrap=True)
    if report.total > len(report.findings):
        console().print(f"… and {report.total - len(report.findings)} more.")
    console().print(
        f"{report.videos} videos, {report.objects} files: {report.total} wrong, {report.total - report.left} fixed;"
        f" {report.in_work} videos in work left alone. {report.seconds:.1f} s."
    )
    if report.left and not report.fix:
        console().print("`videomoments sweep --fix` mends what it can; --delete also deletes what no row names.")
