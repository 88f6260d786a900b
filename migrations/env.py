"""Alembic's environment: runs the revisions on the connection that db/migrate.py hands over, under a lock."""

from alembic import context
from sqlalchemy import Connection, text

from db.models import Base

# Any number that nobody else in this database locks: the bytes of "vm-migr".
LOCK = int.from_bytes(b"vm-migr")


def run(connection: Connection) -> None:
    """The lock is taken before the version is read, so that whoever waits sees what the other has done."""
    context.configure(
        connection=connection, target_metadata=Base.metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        context.run_migrations()


run(context.config.attributes["connection"])
