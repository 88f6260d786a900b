"""Reading on an event loop: the same answers as in a session, and the same names for what goes wrong."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Text, TextClause, bindparam, func, literal_column, make_url, select, text

from db.async_reads import AsyncReads, ReadLimits
from db.models import Clip, Thumbnail, Video
from db.queries import moments, videos
from db.query import Query
from db.session import DRIVER, Database
from tests import factories
from videomoments_dagster.errors import InvalidInput, NotFound, ServiceUnavailable

_LIMITS = ReadLimits(connections=2, wait_seconds=0.2, connect_seconds=2, seconds=0.3)
_ECHO = select(bindparam("value", type_=Text))


def _sleep(seconds: float) -> Query[Any]:
    return Query(select(func.pg_sleep(seconds)), {}, lambda rows: rows)


def _scalar(sql: str) -> Query[Any]:
    return Query(select(literal_column(sql)), {}, lambda rows: rows[0][0])


def _run(database: Database, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        try:
            return await ask()
        finally:
            await database.close()

    return asyncio.run(main())


def _of_reads(url: str, ask: Callable[[AsyncReads], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        reads = AsyncReads(make_url(url), "here", "SET default_transaction_read_only = on", _LIMITS)
        try:
            return await ask(reads)
        finally:
            await reads.close()

    return asyncio.run(main())


def test_a_loop_and_a_session_are_told_the_same(database: Database) -> None:
    with database.session() as session:
        talk = factories.video(session, identifier="talk", frame_rate=29.97)
        root = factories.moment(session, talk)
        clip = Clip(moment_id=root.id, video_id=root.video_id, cloud_url="file:///c.mp4", start_time=1.5, end_time=9.25)
        session.add(clip)
        session.flush()
        session.add(Thumbnail(clip_id=clip.id, cloud_url="file:///c.jpg", file_size_kb=1))
        factories.moment(session, talk, title="naïve “quoted” 試")
        for number in range(4):
            factories.video(session, identifier=f"video-{number}", title=f"100% of {number}")
    with database.read() as session:
        first = videos.page(limit=2).run(session)
        queries = [
            videos.overview("talk"),
            videos.existing("talk"),
            videos.page(limit=2),
            videos.page(limit=2, cursor=first.next_cursor),
            videos.page(q="100%"),
            videos.page(q="TALK", has_moments=True, cursor=first.next_cursor),
            videos.page(has_moments=False, limit=1),
            *(moments.of_named_video("talk", refined=refined) for refined in (None, True, False)),
            moments.of_named_video("nobody"),
        ]
        expected = [query.run(session) for query in queries]
    assert len(expected[-4]) == 2

    async def ask() -> list[Any]:
        assert await asyncio.gather(*(database.run(query) for query in queries)) == expected, "all at once, at first"
        return [await database.run(query) for query in queries]

    assert _run(database, ask) == expected


def test_a_result_that_says_not_found_is_that(database: Database) -> None:
    with pytest.raises(NotFound, match="nobody"):
        _run(database, lambda: database.run(videos.overview("nobody")))


def test_its_connections_read_only_are_in_utc_and_give_up_as_those_of_sessions(fresh_database_url: str) -> None:
    database = Database(f"{fresh_database_url}?options=-c%20work_mem%3D5MB&connect_timeout=3", read_seconds=7)
    names = ("transaction_read_only", "TimeZone", "statement_timeout", "application_name", "work_mem")
    columns = ", ".join(f"current_setting('{name}')" for name in names)
    query = Query(text(f"SELECT {columns}"), {}, lambda rows: tuple(rows[0]))
    with database.read() as session:
        expected = tuple(query.run(session))
    assert expected == ("on", "UTC", "7s", "videomoments", "5MB")
    assert _run(database, lambda: database.run(query)) == expected


def test_what_it_reads_was_committed(database: Database) -> None:
    count = Query(select(func.count()).select_from(Video), {}, lambda rows: rows[0][0])

    async def ask() -> list[int]:
        before = await database.run(count)
        with database.session() as session:
            factories.video(session)
            within = await database.run(count)
        return [before, within, await database.run(count)]

    assert _run(database, ask) == [0, 0, 1]


@pytest.mark.parametrize("value", ["nul\0", "half of a pair \ud83d"])
def test_a_value_that_postgresql_refuses_is_bad_input(database: Database, value: str) -> None:
    with pytest.raises(InvalidInput):
        _run(database, lambda: database.run(Query(_ECHO, {"value": value}, list)))


def test_a_server_that_is_away_or_knows_no_such_database_is_named_without_its_password(database_url: str) -> None:
    away = f"{DRIVER}://someone:canary@127.0.0.1:1/videomoments"
    missing = make_url(database_url).set(database="no_such_database").render_as_string(hide_password=False)
    for url, words in ((away, "127.0.0.1:1/videomoments"), (missing, "no_such_database")):
        database = Database(url)
        with pytest.raises(ServiceUnavailable) as failure:
            _run(database, lambda database=database: database.run(_scalar("1")))
        assert words in failure.value.message
        assert "canary" not in str(failure.value)


_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_CUT = text(f"SELECT pg_terminate_backend(pid) {_OTHERS}")
_THERE = text(f"SELECT count(*) {_OTHERS}")
_AT_WORK = text(f"SELECT count(*) {_OTHERS} AND wait_event = 'PgSleep'")


async def _until(database: Database, count: TextClause, wanted: int) -> None:
    """The loop has turned since it is so, too."""
    while True:
        with database.session() as session:
            found = session.scalar(count)
        await asyncio.sleep(0.02)
        if found == wanted:
            return


def test_a_connection_that_is_cut_while_idle_is_replaced(database: Database) -> None:
    async def ask() -> bool:
        first = await database.run(_scalar("pg_backend_pid()"))
        with database.session() as session:
            session.execute(_CUT)
        await _until(database, _THERE, 0)
        return first != await database.run(_scalar("pg_backend_pid()"))

    assert _run(database, ask)


def test_a_connection_that_is_cut_at_work_is_named_and_replaced(database: Database) -> None:
    async def ask() -> int:
        working = asyncio.ensure_future(database.run(_sleep(30)))
        await _until(database, _AT_WORK, 1)
        with database.session() as session:
            session.execute(_CUT)
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            await working
        return await database.run(_scalar("7"))

    assert _run(database, ask) == 7


def test_a_query_that_takes_too_long_is_given_up_by_the_server(fresh_database_url: str) -> None:
    database = Database(fresh_database_url, read_seconds=0.2)
    with pytest.raises(ServiceUnavailable, match="too long"):
        _run(database, lambda: database.run(_sleep(30)))


def test_who_asks_again_and_again_keeps_nobody_else_waiting(database_url: str) -> None:
    """asyncpg gives a connection that comes free to whoever asks next: then some waited for seconds."""
    answered: list[int] = []
    askers, times = 12, 10

    async def ask(reads: AsyncReads) -> int:
        async def one(number: int) -> set[int]:
            pids = set()
            for _ in range(times):
                pids.add(await reads.run(_scalar("pg_backend_pid() + coalesce(length(pg_sleep(0.004)::text), 0)")))
                answered.append(number)
            return pids

        await asyncio.gather(*(reads.run(_sleep(0.05)) for _ in range(_LIMITS.connections)))  # they are open now
        return len(set.union(*await asyncio.gather(*map(one, range(askers)))))

    assert _of_reads(database_url, ask) == _LIMITS.connections
    for number in range(askers):
        places = [place for place, each in enumerate(answered) if each == number]
        assert max(after - before for before, after in pairwise(places)) < 2 * askers


def test_who_waits_too_long_for_a_connection_is_told_so(database_url: str) -> None:
    async def ask(reads: AsyncReads) -> list[str]:
        done = await asyncio.gather(*(reads.run(_sleep(1.5)) for _ in range(3)), return_exceptions=True)
        return [str(each) for each in done if isinstance(each, ServiceUnavailable)]

    (told,) = _of_reads(database_url, ask)
    assert "busy" in told


def test_long_queries_leave_connections_for_others(database_url: str) -> None:
    async def ask(reads: AsyncReads) -> list[str]:
        order: list[str] = []

        async def one(query: Query[Any], name: str) -> None:
            await reads.run(query)
            order.append(name)

        long = replace(_sleep(0.1), is_long=True)
        await asyncio.gather(*(one(long, "long") for _ in range(2)), *(one(_scalar("1"), "short") for _ in range(5)))
        return order

    assert _of_reads(database_url, ask) == ["short"] * 5 + ["long"] * 2


def test_who_is_cancelled_leaves_no_turn_taken(database_url: str) -> None:
    async def ask(reads: AsyncReads) -> int:
        for _ in range(5):
            working = [asyncio.ensure_future(reads.run(_sleep(5))) for _ in range(4)]
            await asyncio.sleep(0.05)
            for each in working:
                each.cancel()
            await asyncio.gather(*working, return_exceptions=True)
        return await reads.run(_scalar("7"))

    assert _of_reads(database_url, ask) == 7


def test_a_schema_that_changes_under_a_prepared_statement_is_no_error(database: Database) -> None:
    async def ask() -> Any:
        before = await database.run(videos.page())
        with database.session() as session:
            session.execute(text("ALTER TABLE videos ALTER COLUMN title TYPE text"))
        assert await database.run(videos.page()) == before
        return True

    assert _run(database, ask)


def test_a_connection_that_was_cut_before_the_loop_could_notice_is_replaced(database: Database) -> None:
    async def ask() -> list[int]:
        pids = set(await asyncio.gather(*(database.run(_scalar("pg_backend_pid()")) for _ in range(4))))
        with database.session() as session:
            session.execute(_CUT)
        left = 1
        while left:  # the loop does not turn meanwhile
            with database.session() as session:
                left = session.scalar(_THERE)
        return [pid for pid in [await database.run(_scalar("pg_backend_pid()")) for _ in range(4)] if pid in pids]

    assert _run(database, ask) == []


def test_whatever_keeps_a_connection_from_being_opened_is_named(database: Database) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    for more in ("options=-c%20nothing%3D1", "target_session_attrs=standby"):
        refused = Database(f"{url}?{more}")
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            _run(refused, lambda refused=refused: refused.run(_scalar("1")))


def test_a_query_that_nobody_waits_for_is_given_up_by_the_server(database: Database) -> None:
    async def ask() -> bool:
        working = asyncio.ensure_future(database.run(_sleep(60)))
        await _until(database, _AT_WORK, 1)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await _until(database, _AT_WORK, 0)
        return True

    assert _run(database, ask)


def test_a_mistake_of_ours_is_no_server_that_is_away(database: Database) -> None:
    wrong = Query(_ECHO, {"value": 7}, list)
    with pytest.raises(InvalidInput):
        _run(database, lambda: database.run(wrong))
    with pytest.raises(asyncpg.UndefinedTableError):
        _run(database, lambda: database.run(Query(text("SELECT FROM nowhere"), {}, list)))
