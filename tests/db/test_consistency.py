"""What the consistency sweep asks of the rows: pages in the order of object names, and which of many are known."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.queries import consistency
from tests import factories as make
from tests.db.conftest import QueryCounter


def test_promises_come_in_the_order_of_object_names_whatever_the_collation(
    session: Session, statements: QueryCounter
) -> None:
    """A linguistic collation would put 'a' before 'a-b', and 'B' after it."""
    identifiers = ["a_b", "a", "a-b", "B", "a0", "ab"]
    for identifier in identifiers:
        video = make.video(session, identifier=identifier)
        clip = make.clip(session, make.moment(session, video))
        pictures = [make.thumbnail(session, video), make.thumbnail(session, clip)]
        expected = {clip.cloud_url, *(picture.cloud_url for picture in pictures)}
        assert set(consistency.promises_of(session, [identifier])[identifier].others) == expected
    ordered = sorted(f"{identifier}/" for identifier in identifiers)
    with statements() as sent:
        first = consistency.promises_after(session, None, 4)
        rest = consistency.promises_after(session, first[-1].identifier, 4)
    assert [f"{each.identifier}/" for each in (*first, *rest)] == ordered
    assert len(sent) == 4, "two a page, however much hangs off its videos"
    assert consistency.promises_of(session, ["nobody"]) == {}


def test_what_is_known_and_what_is_active(session: Session) -> None:
    assert consistency.is_empty(session)
    make.video(session, identifier="stored")
    states = {"queued": "waits", "launched": "runs", "finished": "over", "rejected": "refused"}
    ids = [make.request(session, video, state=state).request_id for state, video in states.items()]
    asked = [*states.values(), "stored", "nobody"]
    assert not consistency.is_empty(session)
    assert consistency.known_videos(session, asked) == {*states.values(), "stored"}
    assert consistency.active_videos(session, asked) == {"waits", "runs"}
    assert set(consistency.requests_of(session, [*ids, "unknown"])) == set(ids)


def test_active_requests_and_running_rows_are_paged_to_the_end(session: Session) -> None:
    stored = make.video(session, identifier="stored")
    runs = [make.run(session, stored, status="running"), *(make.run(session, status="running") for _ in range(2))]
    make.run(session, stored, status="completed")
    requests = [make.request(session, f"video-{number}").request_id for number in range(3)]
    make.request(session, "over", state="finished")
    now = session.execute(text("SELECT now()")).scalar_one()
    later = now + timedelta(seconds=1)

    page = consistency.active_after(session, None, before=later, limit=2)
    rest = consistency.active_after(session, (page[-1].updated_at, page[-1].id), before=later, limit=2)
    assert [request.request_id for request in (*page, *rest)] == requests
    assert consistency.active_after(session, None, before=now, limit=2) == []

    first = consistency.running_after(session, None, before=later, limit=2)
    second = consistency.running_after(session, first[-1].identifier, before=later, limit=2)
    assert [row.identifier for row in (*first, *second)] == sorted(run.identifier for run in runs)
    assert {row.video for row in (*first, *second)} == {"stored", "never-stored"}
    assert consistency.running_after(session, None, before=runs[0].started_at, limit=2) == []
