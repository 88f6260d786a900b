"""Sessions for the database tests: rolled back after each, or on a database of the test's own where it commits."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from db.session import Database

QueryCounter = Callable[[], AbstractContextManager[list[str]]]


@pytest.fixture(scope="session")
def engine(database_url: str) -> Iterator[Engine]:
    """Connections to the database that the migrations made."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session whose commits are savepoints; everything is rolled back at the end."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as session:
            yield session
        outer.rollback()


@pytest.fixture
def statements(session: Session) -> QueryCounter:
    """`with statements() as sent:` collects what is sent to PostgreSQL; the session is cleared first, as it is for a
    request, and savepoints do not count."""

    @contextmanager
    def collect() -> Iterator[list[str]]:
        session.flush()
        session.expunge_all()
        sent: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if not statement.startswith(("SAVEPOINT", "RELEASE")):
                sent.append(statement)

        connection = session.connection()
        event.listen(connection, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(connection, "before_cursor_execute", note)

    return collect


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    """A migrated database of the test's own, to commit in."""
    database = Database(fresh_database_url)
    yield database
    database.dispose()
