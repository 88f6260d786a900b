"""Units of work: what is committed, what is not, and how PostgreSQL's failures are named."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import InternalError

from db.models import Video
from db.session import DRIVER, Database
from tests import factories
from videomoments_dagster.errors import InvalidConfig, InvalidInput, ServiceUnavailable


def test_a_unit_of_work_is_committed_at_its_end(database: Database) -> None:
    with database.session() as session:
        made = factories.video(session, identifier="kept")
    assert made.title == "Title of kept"  # readable after the block
    with database.read() as session:
        assert session.scalars(select(Video.identifier)).all() == ["kept"]


def test_a_unit_of_work_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError, match="half-way"), database.session() as session:
        factories.video(session)
        raise RuntimeError("half-way")
    with database.read() as session:
        assert session.scalars(select(Video.id)).all() == []


def test_a_read_session_can_not_write(database: Database) -> None:
    with pytest.raises(InternalError, match="read-only transaction"), database.read() as session:
        factories.video(session)
    with database.session() as session:  # the connection goes back to the pool able to write
        factories.video(session)


def test_timestamps_read_as_utc_whatever_the_server_says(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    name = make_url(empty_database_url).database
    with database.session() as session:
        session.execute(text(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'"))
    database.dispose()
    with database.read() as session:
        assert session.scalar(text("SELECT now()")).utcoffset() == timedelta(0)
    database.dispose()


def test_the_server_asks_after_a_host_that_fell_silent(database: Database) -> None:
    """A host that died inside a transaction kept its video locked: by default the server asks after two hours."""
    with database.read() as session:
        asked = [session.scalar(text(f"SHOW tcp_keepalives_{what}")) for what in ("idle", "interval", "count")]
    assert asked == ["30", "10", "3"]


def test_ping_answers_with_the_version(database: Database) -> None:
    assert int(database.ping().split(".")[0]) >= 15


@pytest.fixture
def away() -> Iterator[Database]:
    database = Database(f"{DRIVER}://someone:canary@127.0.0.1:1/videomoments")
    yield database
    database.dispose()


def test_a_server_that_is_away_is_named_without_its_password(away: Database) -> None:
    with pytest.raises(ServiceUnavailable) as failure:
        away.ping()
    assert "127.0.0.1:1/videomoments" in failure.value.message
    assert "canary" not in str(failure.value)
    with pytest.raises(ServiceUnavailable), away.session() as session:
        factories.video(session)


def test_a_database_that_does_not_exist_is_named(database_url: str) -> None:
    address = make_url(database_url).set(database="no_such_database")
    database = Database(address.render_as_string(hide_password=False))
    with pytest.raises(ServiceUnavailable, match="no_such_database"):
        database.ping()


def test_a_connection_cut_while_idle_is_replaced(database: Database) -> None:
    with database.read() as session:
        cut = session.scalar(text("SELECT pg_backend_pid()"))
    with Database(database.engine.url.render_as_string(hide_password=False)).session() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": cut})
    with database.read() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != cut


def test_a_connection_cut_in_the_middle_is_a_service_unavailable(database: Database) -> None:
    with pytest.raises(ServiceUnavailable, match="does not answer"), database.session() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    database.ping()


def test_only_a_read_that_takes_too_long_is_given_up(database: Database, database_url: str) -> None:
    impatient = Database(database_url, read_seconds=0.05)
    with impatient.session() as session:
        session.execute(text("SELECT pg_sleep(0.1)"))
    for _ in range(2):
        with pytest.raises(ServiceUnavailable, match="took too long"), impatient.read() as session:
            session.execute(text("SELECT pg_sleep(10)"))
    with database.read() as session:
        assert session.scalar(text("SHOW statement_timeout")) == "0"
    impatient.dispose()


def test_a_pool_that_is_used_up_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.session.POOL_TIMEOUT_SECONDS", 0.05)
    small = Database(database.engine.url.render_as_string(hide_password=False), pool_size=1, max_overflow=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(small.read()).execute(text("SELECT 1"))
        with pytest.raises(ServiceUnavailable, match="busy"), small.read() as session:
            session.execute(text("SELECT 1"))
        with small.session() as session:
            session.execute(text("SELECT 1"))  # who reads takes nothing from who writes
    small.dispose()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"title": "x" * 501}, "too long for type character varying"),
        ({"title": "a\0b"}, "NUL"),
        ({"file_size_kb": 2**70}, "out of range"),
    ],
)
def test_a_value_that_no_column_holds_is_bad_input(database: Database, values: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words), database.session() as session:
        factories.video(session, **values)


def test_nul_inside_json_is_bad_input(database: Database) -> None:
    with pytest.raises(InvalidInput, match="unsupported Unicode"), database.session() as session:
        factories.request(session, "a", config={"title": "a\0b"})


@pytest.mark.parametrize(
    "url", ["", "not a url", "postgresql://u:canary@h/d", "sqlite://", f"{DRIVER}://u:canary@h:x/"]
)
def test_a_url_that_can_not_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidConfig) as failure:
        Database(url)
    assert "canary" not in str(failure.value) + failure.value.hint
