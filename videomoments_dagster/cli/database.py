"""`videomoments db`: the migrations of the product's database. Dagster's own tables are not touched."""

from typing import Annotated

import typer

from videomoments_dagster.cli.output import messages, print_json
from videomoments_dagster.errors import InvalidInput
from videomoments_dagster.settings import get_settings

app = typer.Typer(no_args_is_help=True, help="Migrate and check the database.")


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="Revision to go up to")] = "head") -> None:
    """Bring the database to a revision."""
    from db import migrate

    url = get_settings().database_url
    migrate.upgrade(url, revision)
    messages().print(f"The database is at revision {migrate.current(url)}.")


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Revision to go back to; 'base' removes all tables")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Go back to a revision. Rows of the tables that go away are lost."""
    from db import migrate

    if not yes:
        typer.confirm(f"Go back to {revision}? Rows of the tables that go away are lost.", abort=True)
    url = get_settings().database_url
    migrate.downgrade(url, revision)
    messages().print(f"The database is at revision {migrate.current(url) or 'base'}.")


@app.command()
def check(json_output: Annotated[bool, typer.Option("--json", help="As a JSON list")] = False) -> None:
    """Compare the database with the code; exit code 1 when they differ."""
    from db import migrate

    differences = migrate.check(get_settings().database_url)
    if json_output:
        print_json(differences)
    if differences:
        raise InvalidInput(
            "The database differs from the code:\n" + "\n".join(differences), hint="`videomoments db upgrade`"
        )
    if not json_output:
        messages().print("The database is as the code expects it.")
