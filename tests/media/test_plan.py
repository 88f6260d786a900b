"""Planning a cut: a table of decisions, without any media."""

import pytest

from videomoments_dagster.errors import InvalidInput, MediaDamaged
from videomoments_dagster.media.keyframes import KeyframeIndex
from videomoments_dagster.media.plan import CutPlan, plan_cut

INDEX = KeyframeIndex((0.0, 2.0, 4.0, 20.0), 0.0, 30.0, copyable=True)


@pytest.mark.parametrize(
    ("start", "end", "mode", "begins", "ends"),
    [
        (5.0, 9.0, "copy", 4.0, 9.0),
        (2.0, 9.0, "copy", 2.0, 9.0),
        (6.5, 9.0, "copy", 4.0, 9.0),  # 2.5 s: just near enough
        (6.6, 9.0, "reencode", 6.6, 9.0),
        (19.99, 25.0, "reencode", 19.99, 25.0),
        (1.9996, 5.0, "copy", 1.9996, 5.0),  # within a millisecond of a keyframe is on it
        (-3.0, 5.0, "copy", 0.0, 5.0),
        (28.0, 99.0, "reencode", 28.0, 30.0),
        (21.0, 99.0, "copy", 20.0, 30.0),
    ],
)
def test_a_cut_starts_on_the_keyframe_before_it_or_is_encoded(
    start: float, end: float, mode: str, begins: float, ends: float
) -> None:
    plan = plan_cut(start, end, INDEX)
    assert (plan.mode, plan.start_seconds, plan.end_seconds) == (mode, begins, ends)
    assert plan.start_seconds <= max(0.0, start)
    assert plan.decode_from_seconds in INDEX.times_seconds


def test_a_stream_that_browsers_do_not_play_is_always_encoded() -> None:
    index = KeyframeIndex((0.0, 2.0), 0.0, 30.0, copyable=False)
    assert plan_cut(2.0, 9.0, index) == CutPlan("reencode", 2.0, 9.0, 2.0)


def test_a_picture_that_begins_after_the_sound_serves_from_the_start() -> None:
    index = KeyframeIndex((0.067, 2.0), 0.067, 30.0, copyable=True)
    assert plan_cut(0.0, 1.0, index) == CutPlan("copy", 0.0, 1.0, 0.067)


def test_a_video_that_begins_in_the_middle_of_a_group_is_encoded_before_its_first_keyframe() -> None:
    index = KeyframeIndex((1.5,), 0.0, 30.0, copyable=True)
    assert plan_cut(0.5, 1.0, index).mode == "reencode"
    assert plan_cut(1.6, 3.0, index) == CutPlan("copy", 1.5, 3.0, 1.5)


@pytest.mark.parametrize(("start", "end"), [(30.0, 40.0), (5.0, 5.0), (9.0, 5.0), (float("nan"), 5.0)])
def test_a_range_that_holds_nothing_of_the_video_is_refused(start: float, end: float) -> None:
    with pytest.raises(InvalidInput, match=r"30\.000 s"):
        plan_cut(start, end, INDEX)


def test_an_index_survives_storage() -> None:
    assert KeyframeIndex.from_json(INDEX.to_json()) == INDEX
    assert KeyframeIndex.from_json(INDEX.to_json().encode()) == INDEX


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"times_seconds": 3}', '{"times_seconds": ["x"]}'])
def test_a_stored_index_that_is_broken_is_named(text: str) -> None:
    with pytest.raises(MediaDamaged):
        KeyframeIndex.from_json(text)
