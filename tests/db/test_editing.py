"""A person's changes under the locks that re-generation takes: whoever comes second sees what the first one did."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from sqlalchemy.orm import Session

from db.models import Video
from db.queries import editing, moments
from db.queries.moments import MomentView, NewMoment, NewRefined
from db.session import Database
from tests import factories as make
from videomoments_dagster.errors import Conflict, NotFound


@pytest.fixture
def video(session: Session) -> Video:
    return make.video(session)


def anything(_moment: MomentView) -> None:
    """A check that agrees."""


def test_a_changed_refinement_is_kept_and_so_is_its_parent(session: Session, video: Video) -> None:
    root = make.moment(session, video, 100)
    child = make.refined(session, root)
    changed, removed = editing.change(session, video, child.identifier, anything, start_time=50.0)
    assert changed.edited_at and changed.start_time == 50.0 and removed == []
    moments.replace_generated(session, video.id, [], generation_model="m", generation_config_id=None)
    better = NewRefined("f" * 16, root.identifier, 100, 110, 101, 109, "Theirs", "m")
    moments.replace_refined(session, video.id, [better])
    assert {each.identifier for each in moments.of_video(session, video.id)} == {root.identifier, child.identifier}


def test_new_times_of_a_root_take_a_models_refinement_along_but_not_a_persons(session: Session, video: Video) -> None:
    for edited_at, left in ((None, 1), (make.BEGINNING, 2)):
        root = make.moment(session, video, 100)
        make.refined(session, root, edited_at=edited_at)
        editing.change(session, video, root.identifier, anything, title="Only the title", start_time=100.0)
        assert len(moments.of_video(session, video.id)) == 2
        editing.change(session, video, root.identifier, anything, start_time=101.0)
        assert len(moments.of_video(session, video.id)) == left
        editing.remove(session, video, root.identifier, anything)
        assert moments.of_video(session, video.id) == []


def test_a_refused_check_changes_nothing(session: Session, video: Video) -> None:
    root = make.moment(session, video, 100, title="Before")

    def refuse(_moment: MomentView) -> None:
        raise Conflict("no")

    with pytest.raises(Conflict):
        editing.change(session, video, root.identifier, refuse, title="After")
    with pytest.raises(Conflict):
        editing.remove(session, video, root.identifier, refuse)
    assert moments.require(session, video, root.identifier).title == "Before"
    with pytest.raises(NotFound):
        editing.remove(session, make.video(session), root.identifier, anything)


def test_a_clip_shows_what_it_was_cut_for_and_no_more(session: Session, video: Video) -> None:
    root = make.moment(session, video, 100, 110)
    make.clip(session, root, start_time=95.0, end_time=109.9, padding_left=5.0, padding_right=-0.1)
    assert moments.require(session, video, root.identifier).playable, "the video ends a little before the moment"
    for times, is_shown in (((96, 109), True), ((94.9, 109), False), ((96, 110), True), ((96, 110.5), False)):
        start, end = times
        changed, _ = editing.change(session, video, root.identifier, anything, start_time=start, end_time=end)
        assert bool(changed.playable) is is_shown, times
        assert changed.clip


def test_a_change_during_re_generation_is_not_lost(database: Database) -> None:
    """The run has the lock; the change waits for it, and then meets the new moment or none: never an old one."""
    with database.session() as session:
        video = make.video(session, identifier="talk")
        make.moment(session, video, 100, identifier="a" * 16, title="Old")
        make.moment(session, video, 200, identifier="b" * 16)
    is_replaced = Event()

    def change(identifier: str) -> str:
        with database.session() as session:
            assert is_replaced.wait(10)
            row = make_video(session)
            try:
                changed, _ = editing.change(session, row, identifier, anything, title="Mine")
            except NotFound:
                return "not found"
            return f"{changed.title} at {changed.start_time}"

    def make_video(session: Session) -> Video:
        found = session.get(Video, video.id)
        assert found
        return found

    with ThreadPoolExecutor(2) as pool:
        changes = [pool.submit(change, each * 16) for each in "ab"]
        with database.session() as session:
            found = [NewMoment("a" * 16, 101, 111, "New")]
            moments.replace_generated(session, video.id, found, generation_model="m", generation_config_id=None)
            is_replaced.set()
            assert not changes[0].done()
        assert [each.result(10) for each in changes] == ["Mine at 101.0", "not found"]
    with database.session() as session:
        moments.replace_generated(session, video.id, found, generation_model="m", generation_config_id=None)
        (left,) = moments.of_video(session, video.id)
        assert left.title == "Mine"
