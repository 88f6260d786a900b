"""Moments as they are shown: order, clip, picture and parent in one query; and scores."""

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.queries import moments
from tests import factories as make
from tests.db.conftest import QueryCounter


def test_moments_come_in_the_order_of_the_video_a_root_before_its_child(session: Session) -> None:
    video = make.video(session)
    late, early = make.moment(session, video, 50, identifier="late"), make.moment(session, video, 5, identifier="early")
    make.refined(session, early, identifier="early-refined", start_time=5)
    make.refined(session, late, identifier="late-refined")
    make.moment(session, make.video(session), identifier="of another video")
    found = moments.of_video(session, video.id)
    assert [moment.identifier for moment in found] == ["early", "early-refined", "late", "late-refined"]
    assert [moment.parent_identifier for moment in found] == [None, "early", None, "late"]


def test_refined_filters_both_ways(session: Session) -> None:
    root = make.moment(session, make.video(session), identifier="root")
    make.refined(session, root, identifier="child")
    assert [moment.identifier for moment in moments.of_video(session, root.video_id, refined=False)] == ["root"]
    assert [moment.identifier for moment in moments.of_video(session, root.video_id, refined=True)] == ["child"]


def test_a_moment_is_shown_with_its_clip_picture_and_configuration(session: Session) -> None:
    config = make.config(session)
    root = make.moment(session, make.video(session), 12, generation_config_id=config.id, score=7, title="Tea")
    clip = make.clip(session, root, start_time=10.5, padding_left=1.5, file_size_kb=12)
    picture = make.thumbnail(session, clip)
    shown = moments.view(session, root.identifier)
    assert shown is not None
    assert (shown.title, shown.score, shown.generation_config_hash) == ("Tea", 7, config.config_hash)
    assert shown.clip is not None
    assert (shown.clip.id, shown.clip.moment_identifier, shown.clip.title) == (clip.id, root.identifier, "Tea")
    assert (shown.clip.start_time, shown.clip.padding_left, shown.clip.file_size_kb) == (10.5, 1.5, 12)
    assert (shown.clip.cloud_url, shown.clip.thumbnail_cloud_url) == (clip.cloud_url, picture.cloud_url)


def test_a_refined_moment_plays_from_its_parents_clip(session: Session) -> None:
    root = make.moment(session, make.video(session))
    child = make.refined(session, root, title="Other words")
    clip = make.clip(session, root)
    shown = moments.view(session, child.identifier)
    assert shown is not None
    assert shown.clip is not None
    assert (shown.clip.cloud_url, shown.clip.moment_identifier) == (clip.cloud_url, root.identifier)
    assert shown.clip.title == root.title


def test_moments_without_a_clip_have_none(session: Session) -> None:
    root = make.moment(session, make.video(session))
    make.refined(session, root)
    assert [moment.clip for moment in moments.of_video(session, root.video_id)] == [None, None]
    assert moments.view(session, "nobody") is None
    assert moments.get(session, "nobody") is None
    assert moments.get(session, root.identifier) is root


def test_a_list_is_one_query_whatever_is_on_it(session: Session, statements: QueryCounter) -> None:
    video = make.video(session)
    for start in range(5):
        root = make.moment(session, video, start, generation_config_id=make.config(session).id)
        make.refined(session, root)
        make.thumbnail(session, make.clip(session, root))
    with statements() as sent:
        found = moments.of_video(session, video.id)
    assert len(found) == 10
    assert all(moment.clip and moment.clip.thumbnail_cloud_url for moment in found)
    assert len(sent) == 1


def test_scores_are_set_in_one_statement_with_who_gave_them(session: Session, statements: QueryCounter) -> None:
    video = make.video(session)
    one, two, other = (make.moment(session, video, start) for start in (0, 20, 40))
    with statements() as sent:
        scored = moments.set_scores(
            session, {one.identifier: 0, two.identifier: 10, "gone": 5}, scoring_model="a scorer"
        )
    assert (scored, len(sent)) == (2, 1)
    shown = {moment.identifier: moment for moment in moments.of_video(session, video.id)}
    assert [shown[moment.identifier].score for moment in (one, two, other)] == [0, 10, None]
    assert shown[one.identifier].scoring_model == "a scorer"
    assert shown[one.identifier].scored_at is not None
    assert shown[one.identifier].edited_at is None
    assert shown[other.identifier].scored_at is None


def test_scoring_nothing_is_no_statement(session: Session, statements: QueryCounter) -> None:
    with statements() as sent:
        assert moments.set_scores(session, {}, scoring_model="a scorer") == 0
    assert sent == []


def test_a_score_out_of_range_changes_nothing(session: Session) -> None:
    one, two = (make.moment(session, make.video(session)) for _ in range(2))
    with pytest.raises(IntegrityError), session.begin_nested():
        moments.set_scores(session, {one.identifier: 5, two.identifier: 11}, scoring_model="a scorer")
    session.refresh(one)
    assert one.score is None
