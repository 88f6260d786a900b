"""`videomoments models`: the model registry, and whether its models answer and their clocks are right."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from videomoments_dagster.cli.output import console, messages, print_json
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.registry import ModelRegistry, Role, Verdict
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.settings import get_settings

app = typer.Typer(no_args_is_help=True, help="List, edit and check the models.")
_Key = Annotated[str, typer.Argument(help="The model's key; `videomoments models list` shows them")]
_Json = Annotated[bool, typer.Option("--json", help="For programs")]
_ROLES: tuple[Role, ...] = ("speech", "generation", "refinement", "scoring")


@app.command("list")
def list_(
    settings: Annotated[bool, typer.Option("--settings", help="Every effective setting of each")] = False,
    json_output: _Json = False,
) -> None:
    """Every model: where it is, what it is used for, and its clock check; with --settings or --json all of it."""
    registry = _registry()
    entries = registry.entries()
    used: dict[Role, str] = {role: registry.default(role) for role in _ROLES}
    if json_output:
        print_json([_record(registry, entry, used) for entry in entries])
        return
    for key, fault in registry.faults().items():
        messages().print(f"[red]{key} can't be used:[/] {escape(fault)}", soft_wrap=True)
    for role, key in used.items():
        if key not in {entry.key for entry in entries}:
            messages().print(f"[red]There is no model {escape(key)}, which the settings name for {role}.[/]")
    if settings:
        for entry in entries:
            console().print(f"[bold]{entry.key}[/]")
            console().print(_settings_of(entry))
        return
    table = Table(box=None)
    for title in ("model", "kind", "checked", "default for"):
        table.add_column(title, no_wrap=title != "default for")
    table.add_column("where", overflow="fold")
    for entry in entries:
        roles = ", ".join(role for role in _ROLES if used[role] == entry.key)
        table.add_row(entry.key, _kind(entry), _checked(registry, entry), roles, escape(_where(entry)))
    console().print(table)


@app.command()
def show(key: _Key, json_output: _Json = False) -> None:
    """Every effective setting of one model, and its last clock check."""
    registry = _registry()
    entry = registry.get(key)
    if json_output:
        print_json(_record(registry, entry, {role: registry.default(role) for role in _ROLES}))
        return
    console().print(_settings_of(entry))
    if verdict := registry.verdict(entry):
        console().print(escape(_told(verdict)), soft_wrap=True)


@app.command("set")
def set_(
    key: _Key,
    fields: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE...", help="Such as ssh_host=gpu.example.org")],
) -> None:
    """Change settings of a model, or add one. Running workers use them from their next stage on."""
    pairs = [field.partition("=") for field in fields]
    for name, separator, _ in pairs:
        if not name or not separator:
            raise typer.BadParameter(f"{name!r} is not FIELD=VALUE, such as ssh_host=gpu.example.org.")
    entry = _registry().change(key, {name: value for name, _, value in pairs})
    messages().print(f"{entry.key}: {escape(_where(entry))}.", soft_wrap=True)


@app.command()
def remove(key: _Key) -> None:
    """Forget a model; one of the built-in list goes back to its defaults."""
    _registry().remove(key)
    messages().print(f"Removed {key}.")


@app.command()
def check(
    key: Annotated[str | None, typer.Argument(help="The model's key; every configured one if unset")] = None,
    json_output: _Json = False,
) -> None:
    """Ask models about a clip with a known clock; say latency, offset and drift. Exit code 1 when one fails.

    Opens the tunnel, sends generated media, and records the verdict: a model whose times are wrong is not used for
    boundaries until it is mended (VIDEOMOMENTS_CLOCK_CHECK says otherwise).
    """
    registry = _registry()
    entries = [registry.get(key)] if key else [e for e in registry.entries() if e.is_configured and not e.is_builtin]
    if not entries:
        messages().print(
            "No model is configured: `videomoments models set KEY ssh_host=...`, or VIDEOMOMENTS_SSH_HOST."
        )
        return
    outcomes: list[dict[str, Any]] = []
    for entry in entries:
        outcome = _check(registry, entry)
        outcomes.append(outcome)
        if not json_output:
            mark = "[green]✓[/]" if outcome["passed"] else "[red]✗[/]"
            console().print(f"{mark} {entry.key:<16} {escape(outcome['told'])}", soft_wrap=True)
    if json_output:
        print_json(outcomes)
    if not all(outcome["passed"] for outcome in outcomes):
        raise typer.Exit(1)


def _check(registry: ModelRegistry, entry: ModelEntry) -> dict[str, Any]:
    from videomoments_dagster.models.calibration import check as check_clock
    from videomoments_dagster.storage.factory import open_store, publish

    settings = get_settings()

    def published(path: Path) -> str:
        return publish(open_store(settings), path)

    outcome: dict[str, Any] = {"key": entry.key, "passed": False}
    try:
        with messages().status(f"{entry.key}: asking …"):
            verdict = check_clock(entry, settings, publish=published)
    except VideoMomentsError as error:
        return outcome | {"told": f"{error.message} {error.hint}".strip(), "error": error.as_dict()}
    registry.record_verdict(entry.key, verdict)
    return outcome | {"passed": verdict.trusted, "told": _told(verdict), "verdict": _as_dict(verdict)}


def _registry() -> ModelRegistry:
    settings = get_settings()
    return ModelRegistry(connect(settings.redis_url), settings)


def _record(registry: ModelRegistry, entry: ModelEntry, used: dict[Role, str]) -> dict[str, Any]:
    verdict = registry.verdict(entry)
    return {
        **entry.model_dump(),
        "is_configured": entry.is_configured,
        "default_for": [role for role in _ROLES if used[role] == entry.key],
        "verdict": _as_dict(verdict) if verdict else None,
    }


def _as_dict(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in Verdict.__slots__}


def _kind(entry: ModelEntry) -> str:
    return f"{entry.kind}, video" if entry.supports_video else entry.kind


def _where(entry: ModelEntry) -> str:
    if entry.is_builtin:
        return "in this process"
    if not entry.is_configured:
        return "not configured"
    if entry.base_url:
        return entry.base_url
    return f"{entry.remote_host}:{entry.remote_port} behind {entry.ssh_host}"


def _settings_of(entry: ModelEntry) -> Table:
    table = Table("setting", "value", "meaning", box=None)
    for name, field in ModelEntry.model_fields.items():
        value = getattr(entry, name)
        table.add_row(name, "" if value is None else escape(str(value)), escape(field.description or ""))
    return table


def _checked(registry: ModelRegistry, entry: ModelEntry) -> str:
    verdict = None if entry.is_builtin else registry.verdict(entry)
    if verdict is None:
        return "" if entry.is_builtin else "no"
    return "yes" if verdict.trusted else "clock wrong"


def _told(verdict: Verdict) -> str:
    parts = [verdict.reason, f"latency {verdict.latency_seconds:.2f} s"]
    if verdict.offset_seconds is not None:
        parts.append(f"offset {verdict.offset_seconds:+.2f} s")
    if verdict.drift_seconds_an_hour is not None:
        parts.append(f"drift {verdict.drift_seconds_an_hour:+.2f} s an hour")
    return "; ".join(parts)
