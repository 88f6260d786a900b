"""The embedded servers by themselves: they start, keep what they were told, and survive every kind of death."""

import contextlib

from videomoments_dagster.stack.postgres import connect


def test_a_clone_is_migrated_and_separate(database_url: str, fresh_database_url: str) -> None:
    with contextlib.closing(connect(fresh_database_url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM videos")
        assert cursor.fetchone() == (0,)
    assert database_url != fresh_database_url
