"""The two rules no constraint can state: updated_at follows every change; clips belong to root moments."""

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import Moment, PipelineRequest
from db.session import Database
from tests import factories as make


def test_updated_at_follows_a_change_through_the_orm(session: Session) -> None:
    moment = make.moment(session, make.video(session))
    before = moment.updated_at
    moment.title = "Another"
    session.flush()
    assert moment.updated_at > before
    assert moment.created_at == before


def test_updated_at_follows_a_bulk_change(session: Session) -> None:
    of = make.video(session)
    moments = [make.moment(session, of, start) for start in (0, 10)]
    before = [moment.updated_at for moment in moments]
    session.execute(update(Moment).values(score=5))
    for moment, then in zip(moments, before, strict=True):
        session.refresh(moment)
        assert moment.updated_at > then


def test_updated_at_follows_sql_typed_by_hand_and_can_not_be_forged(session: Session) -> None:
    request = make.request(session, "a")
    before = request.updated_at
    session.execute(text("UPDATE pipeline_requests SET error = 'x', updated_at = '2001-01-01'"))
    session.refresh(request)
    assert request.updated_at > before


def test_updated_at_stays_when_nothing_changes(session: Session) -> None:
    request = make.request(session, "a")
    before = request.updated_at
    session.execute(update(PipelineRequest).values(state="queued"))
    session.refresh(request)
    assert request.updated_at == before


def test_losing_the_parent_is_a_change(session: Session) -> None:
    root = make.moment(session, make.video(session))
    child = make.refined(session, root)
    before = child.updated_at
    session.delete(root)
    session.flush()
    session.refresh(child)
    assert child.parent_id is None
    assert child.updated_at > before


def refused(failure: pytest.ExceptionInfo[IntegrityError]) -> str | None:
    return failure.value.orig.diag.constraint_name  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]


def test_a_refined_moment_gets_no_clip(session: Session) -> None:
    child = make.refined(session, make.moment(session, make.video(session)))
    with pytest.raises(IntegrityError) as failure:
        make.clip(session, child)
    assert refused(failure) == "clip_of_root_moment"


def test_a_clip_can_not_move_to_a_refined_moment(session: Session) -> None:
    root = make.moment(session, make.video(session))
    child, clip = make.refined(session, root), make.clip(session, root)
    clip.moment_id = child.id
    with pytest.raises(IntegrityError) as failure:
        session.flush()
    assert refused(failure) == "clip_of_root_moment"


def test_a_clip_is_of_its_moments_video(session: Session) -> None:
    moment = make.moment(session, make.video(session))
    with pytest.raises(IntegrityError) as failure:
        make.clip(session, moment, video_id=make.video(session).id)
    assert refused(failure) == "clip_of_root_moment"


@pytest.mark.parametrize("change", ["is_refined", "video_id"])
def test_a_moment_with_a_clip_stays_a_root_of_its_video(session: Session, change: str) -> None:
    moment = make.moment(session, make.video(session))
    make.clip(session, moment)
    setattr(moment, change, True if change == "is_refined" else make.video(session).id)
    with pytest.raises(IntegrityError) as failure:
        session.flush()
    assert refused(failure) == "root_moment_with_clip"


def test_a_moment_without_a_clip_may_become_a_refined_one(session: Session) -> None:
    moment = make.moment(session, make.video(session))
    moment.is_refined = True
    session.flush()


def test_a_clip_and_a_refinement_in_two_transactions_can_not_both_win(database: Database) -> None:
    with database.session() as setup:
        moment = make.moment(setup, make.video(setup))
    with database.session() as one:
        make.clip(one, moment)
        with pytest.raises(Exception, match="lock timeout"), database.session() as other:
            other.execute(text("SET LOCAL lock_timeout = '50ms'"))
            other.execute(update(Moment).where(Moment.id == moment.id).values(is_refined=True))
    with pytest.raises(IntegrityError), database.session() as other:
        other.execute(update(Moment).where(Moment.id == moment.id).values(is_refined=True))
