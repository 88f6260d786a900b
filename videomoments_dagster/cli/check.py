"""`videomoments check`: the asset checks of one video or of all, run in this process and recorded in Dagster."""

import warnings
from typing import Annotated

import typer

from videomoments_dagster.cli.instance import use_running_platform
from videomoments_dagster.cli.output import console, print_json


def check(
    video: Annotated[str | None, typer.Argument(help="The video's identifier")] = None,
    all_videos: Annotated[bool, typer.Option("--all", help="Every video")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON list of outcomes")] = False,
) -> None:
    """Run the asset checks of one video, or of all. Exit code 1 when any fails."""
    if (video is None) != all_videos:
        raise typer.BadParameter("Give a video, or --all.")
    use_running_platform()
    warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec")  # a preview, pinned
    from videomoments_dagster.definitions import defs
    from videomoments_dagster.defs.run_checks import known_videos, run_checks

    outcomes = []
    for key in known_videos() if all_videos else [video or ""]:
        for outcome in run_checks(defs, key):
            outcomes.append(outcome)
            if not json_output:
                mark = "[green]✓[/]" if outcome.passed else "[red]✗[/]"
                console().print(f"{mark} {key:<24} {outcome.check:<26} {outcome.description}".rstrip(), soft_wrap=True)
    if json_output:
        print_json(
            [
                {"video": o.video, "asset": o.asset, "check": o.check, "passed": o.passed, "description": o.description}
                for o in outcomes
            ]
        )
    failed = sum(not outcome.passed for outcome in outcomes)
    if not json_output:
        console().print(f"{len(outcomes)} checks, {failed} failed.")
    if failed:
        raise typer.Exit(1)
