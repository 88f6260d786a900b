"""`videomoments keys`: who may ask the API. They are rows of the database, so the first is made without any key."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from videomoments_dagster.api_keys import LONGEST_NAME, Scope, hash_of, new_identifier, new_key
from videomoments_dagster.cli.output import console, messages, print_json
from videomoments_dagster.errors import InvalidInput, NotFound
from videomoments_dagster.settings import get_settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API's keys.")
_Json = Annotated[bool, typer.Option("--json", help="For programs")]
_DAYS = typer.Option(min=1, max=36500, help="How long it is good; until it is revoked if unset")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for, such as the name of a program")],
    scope: Annotated[Scope, typer.Option(help="What it may do; each includes those before it")] = "read",
    expires_days: Annotated[int | None, _DAYS] = None,
    json_output: _Json = False,
) -> None:
    """Make a key and print it. It is shown this once and kept nowhere: only its hash is stored.

    From the first key on, the API asks everyone for one.
    """
    from db.queries import api_keys

    if not 1 <= len(name.strip()) <= LONGEST_NAME:
        raise InvalidInput(f"The name of a key has 1 to {LONGEST_NAME} characters.")
    key = new_key()
    with _database() as session:
        first = not api_keys.any_ever(session)
        view = api_keys.create(
            session,
            identifier=new_identifier(),
            name=name.strip(),
            scope=scope,
            key_hash=hash_of(key),
            days=expires_days,
        )
    if json_output:
        print_json({**asdict(view), "key": key})
    else:
        typer.echo(key)
    until = f"until {view.expires_at:%Y-%m-%d}" if view.expires_at else "until it is revoked"
    messages().print(f"Key {view.identifier} ({escape(view.name)}): {scope}, good {until}. It is not shown again.")
    if first:
        messages().print("It is the first: from now on the API asks everyone for a key.")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many, the newest")] = 200,
    json_output: _Json = False,
) -> None:
    """The keys, newest first, without their secrets; those that are no longer good, too."""
    from db.queries import api_keys

    with _database() as session:
        keys = api_keys.page(session, limit=limit, cursor=None).items
    if json_output:
        print_json([asdict(key) for key in keys])
        return
    table = Table(box=None)
    for title in ("key", "name", "scope", "made", "last used", "good until"):
        table.add_column(title, no_wrap=title != "name")
    for key in keys:
        until = f"revoked {_day(key.revoked_at)}" if key.revoked_at else _day(key.expires_at)
        row = (key.identifier, escape(key.name), key.scope, _day(key.created_at), _day(key.last_used_at), until)
        table.add_row(*row)
    console().print(table)


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="As `videomoments keys list` shows it")]) -> None:
    """Take a key out of use for good. Every API knows it within 5 seconds."""
    from db.queries import api_keys

    with _database() as session:
        view = api_keys.revoke(session, key)
    if view is None:
        raise NotFound(f"There is no key {key!r}.", hint="`videomoments keys list` shows what each is called.")
    messages().print(f"Key {view.identifier} ({escape(view.name)}) is revoked.")


@contextmanager
def _database() -> Iterator["Session"]:
    from db.session import Database

    database = Database(get_settings().database_url)
    try:
        with database.session() as session:
            yield session
    finally:
        database.dispose()


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else "-"
