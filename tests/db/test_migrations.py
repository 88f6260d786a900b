"""The revisions make exactly what the models say, take it all away again, and may be run by two at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from db import migrate
from db.session import DRIVER
from videomoments_dagster.errors import InvalidConfig, ServiceUnavailable

ROOT = Path(__file__).parent.parent.parent
TABLES = {
    "api_keys",
    "clips",
    "generation_configs",
    "moments",
    "pipeline_history",
    "pipeline_requests",
    "prompts",
    "thumbnails",
    "transcript_passages",
    "transcripts",
    "videos",
    "webhook_deliveries",
}
OURS = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype <> 'c' AND typelem = 0
"""


def run_sql(url: str, statement: str) -> list[str]:
    engine = create_engine(url)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = [str(row[0]) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def test_models_and_migrations_agree(database_url: str) -> None:
    assert migrate.check(database_url) == []
    assert migrate.current(database_url) == migrate.head()


def test_upgrade_makes_the_tables(database_url: str) -> None:
    made = run_sql(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert set(made) == TABLES | {"alembic_version"}


def test_down_leaves_nothing_and_up_again_is_the_same(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    first = sorted(run_sql(empty_database_url, OURS))
    migrate.downgrade(empty_database_url)
    left = run_sql(empty_database_url, OURS)
    assert sorted(left) == ["alembic_version", "alembic_version_pkc"]
    assert migrate.current(empty_database_url) is None
    migrate.upgrade(empty_database_url)
    assert sorted(run_sql(empty_database_url, OURS)) == first
    assert migrate.check(empty_database_url) == []


def test_upgrading_again_changes_nothing(database_url: str) -> None:
    migrate.upgrade(database_url)
    assert migrate.check(database_url) == []


@pytest.mark.slow
def test_processes_that_upgrade_at_once_do_not_collide(empty_database_url: str) -> None:
    program = [
        sys.executable,
        "-c",
        "import sys; from db import migrate; migrate.upgrade(sys.argv[1])",
        empty_database_url,
    ]
    upgrades = [subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    noise = [upgrade.communicate(timeout=60)[1] for upgrade in upgrades]
    assert [upgrade.returncode for upgrade in upgrades] == [0, 0, 0], noise
    assert migrate.check(empty_database_url) == []


def test_an_upgrade_that_fails_leaves_nothing_half_made(empty_database_url: str) -> None:
    run_sql(empty_database_url, "CREATE TABLE thumbnails (id integer)")  # in the way of the last of the first revision
    with pytest.raises(Exception, match="already exists"):
        migrate.upgrade(empty_database_url)
    assert run_sql(empty_database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == ["thumbnails"]


def test_check_says_that_an_empty_database_is_behind(empty_database_url: str) -> None:
    assert migrate.check(empty_database_url) == [f"The database is at revision none, the code at {migrate.head()}."]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("ALTER TABLE videos ALTER COLUMN title TYPE varchar(400)", "modify_type"),
        ("ALTER TABLE videos DROP COLUMN frame_rate", "add_column"),
        ("ALTER TABLE moments ALTER COLUMN is_refined SET DEFAULT true", "modify_default"),
        ("DROP INDEX ix_moments_parent_id", "add_index"),
        ("ALTER TABLE clips DROP CONSTRAINT uq_clips_moment_id", "add_constraint"),
        ("CREATE TABLE something_else (id integer)", "remove_table"),
    ],
)
def test_check_names_what_drifted(empty_database_url: str, change: str, word: str) -> None:
    migrate.upgrade(empty_database_url)
    run_sql(empty_database_url, change)
    differences = migrate.check(empty_database_url)
    assert len(differences) == 1
    assert differences[0].startswith(word)


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(ServiceUnavailable) as failure:
        migrate.upgrade(f"{DRIVER}://someone:canary@127.0.0.1:1/videomoments")
    assert "127.0.0.1:1/videomoments" in failure.value.message
    assert "canary" not in str(failure.value)


def test_another_driver_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="sqlite"):
        migrate.current("sqlite:///file.db")
