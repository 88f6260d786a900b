"""`videomoments up`, `down` and `env`: the platform as a whole."""

import shlex
from typing import Annotated

import typer

from videomoments_dagster.cli.output import messages, print_json
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.detached import start_detached
from videomoments_dagster.stack.home import Home
from videomoments_dagster.stack.supervisor import Event, Supervisor

_EXPORTED = (
    "VIDEOMOMENTS_HOME",
    "DATABASE_URL",
    "DAGSTER_DATABASE_URL",
    "REDIS_URL",
    "DAGSTER_HOME",
    "VIDEOMOMENTS_MAX_CONCURRENT_RUNS",
)
"""What the clients of the services read. Not the ports: set in a shell, they would be an order at the next start."""


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready; `down` stops it")] = False,
    dagster: Annotated[
        bool,
        typer.Option("--dagster/--no-dagster", help="Without Dagster: services and API, for use with `dagster dev`"),
    ] = True,
) -> None:
    """Start the platform and stay; Ctrl-C stops it.

    What is configured (DATABASE_URL, REDIS_URL, GCS_BUCKET_NAME) is used, the rest is started here, with its data in
    VIDEOMOMENTS_HOME. Where a platform runs already, --detach says so and succeeds; without it that is an error.
    """
    settings = get_settings()
    home = Home(settings.home)
    if detach and home.running():
        messages().print(f"A platform already runs in {home.path}.")
        show_addresses(home)
    elif detach:
        start_detached(home, show, with_dagster=dagster)
        show_addresses(home)
        messages().print("`videomoments down` stops it.")
    else:
        supervisor = Supervisor(settings, lambda event: _stay(event, home), with_dagster=dagster)
        supervisor.run()
        messages().print("Stopped.")


def down() -> None:
    """Stop the platform."""
    settings = get_settings()
    home = Home(settings.home)
    stopped = home.stop(grace_seconds=settings.worker_grace_seconds)
    messages().print("Stopped." if stopped else f"No platform runs in {home.path}.")


def env(
    json_output: Annotated[bool, typer.Option("--json", help="As one JSON object")] = False,
) -> None:
    """Print the running platform's addresses as shell exports: eval "$(videomoments env)"."""
    home = Home(get_settings().home)
    running = home.running()
    if not running:
        raise ServiceUnavailable(
            f"No platform runs in {home.path}.", hint="Start it with `videomoments up --detach` (or `make up`)."
        )
    variables = {name: running["environment"][name] for name in _EXPORTED}
    variables["VIDEOMOMENTS_API_URL"] = running["api_url"]
    if running["dagster_url"]:
        variables["VIDEOMOMENTS_DAGSTER_URL"] = running["dagster_url"]
    for name in ("DATABASE_URL", "DAGSTER_DATABASE_URL"):  # as psql reads it; the settings write the driver out
        variables[name] = variables[name].replace("postgresql+psycopg2://", "postgresql://", 1)
    if json_output:
        print_json(variables)
        return
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def show(event: Event) -> None:
    """One line for an event."""
    if event.kind == "part":
        messages().print(f"  [green]✓[/] {event.text:<16} {event.seconds:5.1f} s   {event.address or ''}".rstrip())
    elif event.kind == "note":
        messages().print(f"  [yellow]![/] {event.text}")
    else:
        messages().print(f"VideoMoments is ready after {event.seconds:.1f} s.")


def show_addresses(home: Home) -> None:
    """Where a running platform is to be found."""
    running = home.running()
    for name, value in (("API", running.get("api_url")), ("Dagster", running.get("dagster_url")), ("Data", home.path)):
        if value:
            messages().print(f"  {name:<10} {value}", soft_wrap=True)


def _stay(event: Event, home: Home) -> None:
    show(event)
    if event.kind == "ready":
        show_addresses(home)
        messages().print("Ctrl-C stops it.")
