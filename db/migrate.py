"""Schema migrations without an alembic.ini: the revisions lie in `migrations/`, beside this package.

Two processes may upgrade at once: migrations/env.py takes a lock, and the second one finds nothing to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine

from db.models import Base
from db.session import connect_arguments, named_errors, parse_url, server_name

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to `revision` in one transaction. Raises ServiceUnavailable."""
    with _connection(url) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Go back to `revision`; `base` removes all tables **with their rows**. Raises ServiceUnavailable."""
    with _connection(url) as connection:
        command.downgrade(_config(connection), revision)


def current(url: str) -> str | None:
    """The revision the database is at; None for one without our tables. Raises ServiceUnavailable."""
    with _connection(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The newest revision there is."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def check(url: str) -> list[str]:
    """What differs between the database and the models, one line each; empty when they agree.

    A database that is not at the newest revision says only that. Raises ServiceUnavailable.
    """
    with _connection(url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        revision, newest = context.get_current_revision(), head()
        if revision != newest:
            return [f"The database is at revision {revision or 'none'}, the code at {newest}."]
        return [_line(difference) for difference in compare_metadata(context, Base.metadata)]


def _line(difference: object) -> str:
    """Alembic gives a tuple for most, a list of tuples for the changes of one column."""
    if isinstance(difference, list):
        return "; ".join(_line(part) for part in difference)
    assert isinstance(difference, tuple)  # noqa: S101  # the other form there is
    kind, *what = difference
    return f"{kind}: {', '.join(str(part) for part in what if part is not None)}"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    address = parse_url(url)
    engine = create_engine(address, poolclass=NullPool, connect_args=connect_arguments(address))
    with named_errors(server_name(address)), engine.connect() as connection:
        yield connection
