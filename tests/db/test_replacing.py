"""Re-generation: a model's moments make way for new ones; a person's stay; a retry changes nothing."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Clip, Moment, Thumbnail, Video
from db.queries import editing, moments
from db.queries.moments import NewMoment, NewRefined, ReplacedMoments
from db.session import Database
from tests import factories as make
from videomoments_dagster.errors import Conflict, NotFound

EDITED = make.BEGINNING


@pytest.fixture
def video(session: Session) -> Video:
    return make.video(session)


def new(identifier: str, start_time: float = 0.0, **values: object) -> NewMoment:
    return NewMoment(identifier, start_time, start_time + 10, **{"title": identifier, **values})  # pyright: ignore[reportArgumentType]


def generate(session: Session, video: Video, *found: NewMoment, model: str = "model-2") -> ReplacedMoments:
    result = moments.replace_generated(
        session, video.id, found, generation_model=model, generation_config_id=make.config(session).id
    )
    session.expire_all()
    return result


def refine(session: Session, video: Video, *found: NewRefined) -> ReplacedMoments:
    result = moments.replace_refined(session, video.id, found)
    session.expire_all()
    return result


def identifiers(session: Session, video: Video) -> list[str]:
    return sorted(session.scalars(select(Moment.identifier).where(Moment.video_id == video.id)))


def test_a_models_roots_go_with_children_clips_and_pictures(session: Session, video: Video) -> None:
    old = make.moment(session, video)
    make.refined(session, old)
    clip = make.clip(session, old)
    picture = make.thumbnail(session, clip)
    of_video = make.thumbnail(session, video)
    urls = {clip.cloud_url, picture.cloud_url}
    replaced = generate(session, video, new("new"))
    assert identifiers(session, video) == ["new"]
    assert set(replaced.removed_cloud_urls) == urls
    assert replaced.kept == 0
    assert session.scalars(select(Clip)).all() == []
    assert session.scalars(select(Thumbnail)).all() == [of_video]


def test_hand_made_and_hand_edited_moments_stay_with_children_and_clips(session: Session, video: Video) -> None:
    by_hand = make.moment(session, video, identifier="by-hand", generation_model=None)
    edited = make.moment(session, video, identifier="edited", edited_at=EDITED)
    for root in (by_hand, edited):
        make.refined(session, root, identifier=f"{root.identifier}-child")
        make.clip(session, root)
    make.moment(session, video, identifier="old")
    replaced = generate(session, video, new("new"))
    assert identifiers(session, video) == ["by-hand", "by-hand-child", "edited", "edited-child", "new"]
    assert replaced == ReplacedMoments(kept=2, removed_cloud_urls=[])
    assert len(session.scalars(select(Clip)).all()) == 2


def test_a_root_whose_refined_child_was_edited_stays(session: Session, video: Video) -> None:
    """Without it the child would have neither a parent nor a clip to play from."""
    root = make.moment(session, video, identifier="root")
    make.refined(session, root, identifier="child", edited_at=EDITED)
    make.refined(session, root, identifier="sibling")
    make.clip(session, root)
    replaced = generate(session, video, new("new"))
    assert replaced == ReplacedMoments(kept=1, removed_cloud_urls=[])
    shown = moments.view(session, "child")
    assert shown is not None
    assert shown.parent_identifier == "root"
    assert shown.clip is not None


def test_refined_moments_that_lost_their_root_go(session: Session, video: Video) -> None:
    make.refined(session, make.moment(session, video), parent_id=None)
    make.refined(session, make.moment(session, video), identifier="edited", parent_id=None, edited_at=EDITED)
    generate(session, video)
    assert identifiers(session, video) == ["edited"]


def test_the_same_moments_again_change_nothing(session: Session, video: Video) -> None:
    found = (new("a", 0, score=4), new("b", 20))
    generate(session, video, *found, model="model")
    before = {m.identifier: (m.id, m.created_at) for m in session.scalars(select(Moment))}
    root = moments.get(session, "a")
    assert root is not None
    make.refined(session, root, identifier="child")
    make.clip(session, root)
    replaced = generate(session, video, *found, model="model")
    assert replaced == ReplacedMoments(kept=0, removed_cloud_urls=[])
    assert identifiers(session, video) == ["a", "b", "child"]
    after = {m.identifier: (m.id, m.created_at) for m in session.scalars(select(Moment)) if m.identifier != "child"}
    assert after == before
    assert len(session.scalars(select(Clip)).all()) == 1


def test_a_retry_with_the_same_configuration_does_not_touch_updated_at(session: Session, video: Video) -> None:
    config_id = make.config(session).id
    for _ in range(2):
        moments.replace_generated(
            session, video.id, [new("a", score=3)], generation_model="m", generation_config_id=config_id
        )
        shown = moments.view(session, "a")
        assert shown is not None
        assert shown.updated_at == shown.created_at


def test_a_moment_found_again_gets_the_new_title_and_keeps_its_score(session: Session, video: Video) -> None:
    generate(session, video, new("a", score=4), model="model-1")
    moments.set_scores(session, {"a": 9}, scoring_model="a scorer")
    generate(session, video, new("a", title="Better words", score=2), model="model-2")
    row = moments.get(session, "a")
    assert row is not None
    assert (row.title, row.generation_model, row.score, row.scoring_model) == (
        "Better words",
        "model-2",
        9,
        "a scorer",
    )


def test_the_finders_own_score_is_the_first(session: Session, video: Video) -> None:
    generate(session, video, new("a", score=4), new("b", 20))
    a, b = moments.get(session, "a"), moments.get(session, "b")
    assert a is not None
    assert b is not None
    assert (a.score, a.scoring_model) == (4, "model-2")
    assert a.scored_at is not None
    assert (b.score, b.scoring_model, b.scored_at) == (None, None, None)


def test_a_persons_version_of_a_moment_wins_over_finding_it_again(session: Session, video: Video) -> None:
    make.moment(session, video, identifier="a", title="A person's words", edited_at=EDITED, generation_model="old")
    replaced = generate(session, video, new("a", title="A model's words"))
    row = moments.get(session, "a")
    assert row is not None
    assert (row.title, row.generation_model) == ("A person's words", "old")
    assert replaced.kept == 1


def test_none_found_removes_what_was_found_before(session: Session, video: Video) -> None:
    make.moment(session, video)
    assert generate(session, video) == ReplacedMoments(kept=0, removed_cloud_urls=[])
    assert identifiers(session, video) == []


def test_a_moment_given_twice_is_one_row(session: Session, video: Video) -> None:
    generate(session, video, new("a"), new("a", title="Last"))
    assert [m.title for m in moments.of_video(session, video.id)] == ["Last"]


def test_other_videos_are_left_alone(session: Session, video: Video) -> None:
    other = make.video(session)
    make.refined(session, make.moment(session, other, identifier="others"), identifier="others-child")
    generate(session, video, new("new"))
    refine(session, video)
    assert identifiers(session, other) == ["others", "others-child"]


def test_an_identifier_of_another_video_is_a_conflict(session: Session, video: Video) -> None:
    make.moment(session, make.video(session), identifier="taken", title="Theirs")
    with pytest.raises(Conflict, match="taken"), session.begin_nested():
        generate(session, video, new("free"), new("taken"))
    assert identifiers(session, video) == []
    theirs = moments.get(session, "taken")
    assert theirs is not None
    assert theirs.title == "Theirs"


@pytest.mark.parametrize("replace", [generate, refine])
def test_a_video_that_is_gone_is_not_found(session: Session, video: Video, replace: object) -> None:
    session.delete(video)
    session.flush()
    with pytest.raises(NotFound):
        replace(session, video)  # pyright: ignore[reportCallIssue]


def roots(session: Session, video: Video, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        make.moment(session, video, 20.0 * number, identifier=name)


def better(identifier: str, parent: str, start: float = 0.0, end: float = 10.0) -> NewRefined:
    """Of a parent that was at these seconds when the model was asked."""
    return NewRefined(identifier, parent, start, end, start + 1, end - 1, f"{parent} refined", "model-2")


def test_refined_children_are_replaced_and_roots_stay(session: Session, video: Video) -> None:
    roots(session, video, ["a", "b"])
    refine(session, video, better("a1", "a"), better("b1", "b", 20, 30))
    replaced = refine(session, video, better("a2", "a"))
    assert identifiers(session, video) == ["a", "a2", "b"]
    assert replaced == ReplacedMoments(kept=0, removed_cloud_urls=[])
    shown = moments.view(session, "a2")
    assert shown is not None
    assert (shown.parent_identifier, shown.is_refined, shown.title) == ("a", True, "a refined")


def test_the_same_refinement_again_is_the_same_row_with_its_score(session: Session, video: Video) -> None:
    roots(session, video, ["a"])
    refine(session, video, better("a1", "a"))
    moments.set_scores(session, {"a1": 8}, scoring_model="a scorer")
    first = session.scalars(select(Moment.id).where(Moment.identifier == "a1")).one()
    refine(session, video, better("a1", "a"))
    row = moments.get(session, "a1")
    assert row is not None
    assert (row.id, row.score) == (first, 8)


def test_an_edited_refinement_stands_and_gets_no_sibling(session: Session, video: Video) -> None:
    roots(session, video, ["a", "b"])
    refine(session, video, better("a1", "a"), better("b1", "b", 20, 30))
    edited = moments.get(session, "a1")
    assert edited is not None
    edited.edited_at = EDITED + timedelta(minutes=1)
    session.flush()
    replaced = refine(session, video, better("a2", "a"), better("b2", "b", 20, 30))
    assert identifiers(session, video) == ["a", "a1", "b", "b2"]
    assert replaced.kept == 1


def test_a_refinement_of_a_moment_that_is_gone_is_left_out(session: Session, video: Video) -> None:
    roots(session, video, ["a"])
    make.moment(session, make.video(session), identifier="other video")
    make.refined(session, make.moment(session, video, 40), identifier="child")
    others = better("x1", "gone"), better("x2", "other video"), better("x3", "child", 41, 49)
    refine(session, video, *others, better("a1", "a"))
    assert [m.identifier for m in moments.of_video(session, video.id, refined=True)] == ["a1"]


def test_a_refinement_of_times_that_a_person_changed_while_the_model_thought_is_left_out(
    session: Session, video: Video
) -> None:
    roots(session, video, ["a", "b", "c"])
    asked = better("a1", "a"), better("b1", "b", 20, 30), better("c1", "c", 40, 50)
    editing.change(session, video, "a", lambda _: None, start_time=3.0)
    editing.change(session, video, "b", lambda _: None, end_time=31.0)
    editing.change(session, video, "c", lambda _: None, title="Only the title")
    refine(session, video, *asked)
    assert [m.identifier for m in moments.of_video(session, video.id, refined=True)] == ["c1"]


def test_replacing_in_two_transactions_leaves_one_set_of_moments(database: Database) -> None:
    with database.session() as setup:
        of = make.video(setup)
    with database.session() as one:
        moments.replace_generated(one, of.id, [new("a")], generation_model="m", generation_config_id=None)
        with pytest.raises(Exception, match="lock timeout"), database.session() as other:
            other.connection().exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
            moments.replace_generated(other, of.id, [new("b")], generation_model="m", generation_config_id=None)
    with database.session() as other:
        moments.replace_generated(other, of.id, [new("b")], generation_model="m", generation_config_id=None)
    with database.read() as session:
        assert identifiers(session, of) == ["b"]
