"""Requests: made once, moved forward only, and decided one at a time for each video."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import PipelineRequest
from db.queries import locks, requests
from db.session import Database
from tests import factories as make
from videomoments_dagster.errors import VideoBusy


def create(session: Session, request_id: str = "r1", **values: Any) -> PipelineRequest:
    defaults: dict[str, Any] = {
        "video_identifier": "talk",
        "source_url": "https://example.org/talk.mp4",
        "pipeline_type": "full",
        "config": {"min_moments": 3},
    }
    return requests.create(session, request_id=request_id, **{**defaults, **values})


def test_a_request_is_queued_with_what_was_asked(session: Session) -> None:
    made = create(session)
    assert (made.state, made.run_id, made.error) == ("queued", None, None)
    assert made.config == {"min_moments": 3}
    assert requests.get(session, "r1") is made
    assert requests.get(session, "r2") is None


def test_creating_the_same_request_again_gives_the_first(session: Session) -> None:
    first = create(session)
    assert create(session, config={"other": True}) is first
    assert first.config == {"min_moments": 3}


def test_an_idempotency_key_gives_the_request_it_was_first_used_for(session: Session) -> None:
    first = create(session, "r1", idempotency_key="k")
    again = create(session, "r2", idempotency_key="k")
    assert again.request_id == "r1"
    assert requests.by_idempotency_key(session, "k") is first
    assert requests.by_idempotency_key(session, "other") is None
    assert requests.get(session, "r2") is None


def test_newest_is_of_this_video_and_with_source_skips_reruns(session: Session) -> None:
    make.request(session, "talk", request_id="old", source_url="u1", requested_at=make.minutes_later(1))
    make.request(session, "talk", request_id="fetch", source_url="u2", requested_at=make.minutes_later(2))
    make.request(session, "talk", request_id="rerun", requested_at=make.minutes_later(3))
    make.request(session, "talk-2", request_id="other", source_url="u3", requested_at=make.minutes_later(4))
    newest, with_source = requests.newest(session, "talk"), requests.newest_with_source(session, "talk")
    assert newest is not None
    assert with_source is not None
    assert (newest.request_id, with_source.request_id) == ("rerun", "fetch")
    assert requests.newest(session, "nobody") is None


def test_of_two_made_at_the_same_instant_the_later_row_is_newest(session: Session) -> None:
    for name in ("first", "second"):
        make.request(session, "talk", request_id=name, requested_at=make.minutes_later(1))
    newest = requests.newest(session, "talk")
    assert newest is not None
    assert newest.request_id == "second"


@pytest.mark.parametrize(
    ("state", "is_active"), [("queued", True), ("launched", True), ("finished", False), ("rejected", False)]
)
def test_active_means_waiting_or_running(session: Session, state: str, is_active: bool) -> None:
    make.request(session, "talk", state=state)
    assert (requests.active(session, "talk") is not None) is is_active


def test_a_request_goes_from_queued_to_launched_to_finished(session: Session) -> None:
    create(session)
    assert requests.mark_launched(session, "r1", "run-1")
    assert requests.mark_launched(session, "r1", "run-2")  # tried again by another run
    assert requests.mark_finished(session, "r1", error="it broke")
    session.expire_all()
    row = requests.get(session, "r1")
    assert row is not None
    assert (row.state, row.run_id, row.error) == ("finished", "run-2", "it broke")


def test_what_is_over_stays_over(session: Session) -> None:
    create(session)
    assert requests.mark_finished(session, "r1")
    assert not requests.mark_launched(session, "r1", "run-1")
    assert not requests.mark_finished(session, "r1", "again")
    session.expire_all()
    row = requests.get(session, "r1")
    assert row is not None
    assert (row.state, row.run_id, row.error) == ("finished", None, None)


def test_queued_before_gives_the_oldest_that_wait(session: Session) -> None:
    for minutes, state in ((3, "queued"), (1, "queued"), (2, "launched"), (4, "queued"), (0, "finished")):
        make.request(session, "talk", request_id=f"at-{minutes}", state=state, requested_at=make.minutes_later(minutes))
    waiting = requests.queued_before(session, make.minutes_later(4), limit=10)
    assert [request.request_id for request in waiting] == ["at-1", "at-3"]
    assert len(requests.queued_before(session, make.minutes_later(9), limit=1)) == 1


def test_an_identifier_is_free_until_a_video_or_a_request_has_it(session: Session) -> None:
    assert requests.taken_identifier(session, "talk") is None
    make.request(session, "talk", source_url="u1")
    make.request(session, "talk")
    assert requests.taken_identifier(session, "talk") == "u1"
    make.video(session, identifier="talk", source_url="u2")
    assert requests.taken_identifier(session, "talk") == "u2"


def test_an_uploaded_videos_identifier_is_taken_too(session: Session) -> None:
    make.request(session, "waiting")
    make.video(session, identifier="stored", source_url=None)
    make.request(session, "stored", source_url="https://example.org/another.mp4")
    assert requests.taken_identifier(session, "waiting") == requests.UPLOADED
    assert requests.taken_identifier(session, "stored") == requests.UPLOADED


def submit(database: Database, video: str, request_id: str, together: Barrier) -> bool:
    """What a POST does: look for an active request under the lock, then create one."""
    with database.session() as session:
        session.scalar(select(func.now()))
        together.wait()
        requests.lock_video(session, video)
        if requests.active(session, video):
            return False
        create(session, request_id, video_identifier=video)
        return True


def test_of_posts_that_race_for_a_video_one_gets_through(database: Database) -> None:
    together = Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        accepted = list(pool.map(lambda n: submit(database, "talk", f"r{n}", together), range(4)))
    assert accepted.count(True) == 1


def test_posts_for_different_videos_do_not_wait_for_each_other_and_for_the_same_not_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session() as one:
        requests.lock_video(one, "first")
        with database.session() as two:
            requests.lock_video(two, "second")
            monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
            with pytest.raises(VideoBusy, match="'first' is being changed"):
                requests.lock_video(two, "first")
            two.rollback()


def test_posts_that_race_with_one_idempotency_key_make_one_request(database: Database) -> None:
    together = Barrier(3)

    def post(number: int) -> str:
        with database.session() as session:
            session.scalar(select(func.now()))
            together.wait()
            return create(session, f"r{number}", video_identifier=f"v{number}", idempotency_key="k").request_id

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(post, range(3)))) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(PipelineRequest)) == 1
