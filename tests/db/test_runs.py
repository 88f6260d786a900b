"""History: a run is one row however often it is recorded, and shown newest first."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from db.models import PipelineRun
from db.queries import runs
from tests import factories as make
from tests.db.conftest import QueryCounter


def record(session: Session, video: str, status: str, minutes: float = 0, **values: Any) -> PipelineRun:
    defaults = {"pipeline_type": "full", "started_at": make.minutes_later(minutes)}
    return runs.record(session, video_identifier=video, status=status, **{**defaults, **values})


def test_a_run_is_named_for_its_video_and_start(session: Session) -> None:
    assert record(session, "talk", "running").identifier == "pipeline:talk:1767225600000"


@pytest.mark.parametrize("length", [77, 78, 100, 255])
def test_a_long_video_identifier_still_fits_and_stays_apart(session: Session, length: int) -> None:
    names = ["x" * (length - 1) + end for end in "ab"]
    recorded = [record(session, name, "failed") for name in names]
    assert len({run.identifier for run in recorded}) == 2
    assert all(len(run.identifier) <= 100 for run in recorded)
    for name, run in zip(names, recorded, strict=True):
        assert [item.identifier for item in runs.page(session, name).items] == [run.identifier]


def test_the_end_is_written_over_the_beginning(session: Session) -> None:
    video = make.video(session)
    first = record(session, video.identifier, "running")
    assert (first.video_id, first.duration_seconds) == (video.id, None)
    ended = record(
        session,
        video.identifier,
        "failed",
        completed_at=make.minutes_later(1.5),
        error_stage="AUDIO_EXTRACTION",
        error_message="It has no audio.",
    )
    assert ended.id == first.id
    assert (ended.status, ended.duration_seconds) == ("failed", 90.0)
    assert (ended.error_stage, ended.error_message) == ("AUDIO_EXTRACTION", "It has no audio.")


def test_recording_the_same_again_changes_nothing(session: Session) -> None:
    def say() -> tuple[int, str]:
        run = record(session, "talk", "completed", completed_at=make.minutes_later(1))
        return run.id, run.status

    assert say() == say()


def test_a_late_beginning_does_not_overwrite_the_end(session: Session) -> None:
    record(session, "talk", "cancelled", completed_at=make.minutes_later(1))
    assert record(session, "talk", "running").status == "cancelled"


def test_a_run_that_is_tried_again_is_a_second_row(session: Session) -> None:
    record(session, "talk", "failed", 0)
    record(session, "talk", "completed", 5)
    assert [run.status for run in runs.page(session, "talk").items] == ["completed", "failed"]


def test_a_completed_run_records_what_the_video_has(session: Session) -> None:
    video = make.video(session)
    config = make.config(session)
    roots = [make.moment(session, video, start, generation_config_id=config.id) for start in (0, 20)]
    make.moment(session, video, 40, generation_model=None)
    make.refined(session, roots[0], generation_config_id=make.config(session).id)
    make.clip(session, roots[0])
    run = record(session, video.identifier, "completed", completed_at=make.minutes_later(1))
    assert (run.total_moments_generated, run.total_clips_created) == (2, 1)
    assert run.generation_config_id == config.id


def test_what_is_given_is_recorded_as_given(session: Session) -> None:
    video = make.video(session)
    run = record(session, video.identifier, "partial", total_moments_generated=7, total_clips_created=0)
    assert (run.total_moments_generated, run.total_clips_created) == (7, 0)


def test_a_run_without_a_video_is_recorded_and_shown(session: Session) -> None:
    record(session, "never-stored", "failed")
    (shown,) = runs.page(session, "never-stored").items
    assert (shown.video_identifier, shown.status) == ("never-stored", "failed")
    assert runs.page(session, "never").items == []


def test_recent_shows_all_videos_newest_first_in_one_query(session: Session, statements: QueryCounter) -> None:
    video = make.video(session, identifier="stored")
    make.run(session, video, started_at=make.minutes_later(1))
    record(session, "never-stored", "failed", 3)
    make.run(session, make.video(session, identifier="another"), started_at=make.minutes_later(2))
    with statements() as sent:
        page = runs.recent(session)
    assert [run.video_identifier for run in page.items] == ["never-stored", "another", "stored"]
    assert len(sent) == 1


def test_pages_of_a_video_go_through_all_its_runs(session: Session) -> None:
    video = make.video(session)
    made = [make.run(session, video, started_at=make.minutes_later(number // 2)).identifier for number in range(5)]
    make.run(session, make.video(session))
    seen: list[str] = []
    cursor = None
    while True:
        page = runs.page(session, video.identifier, limit=2, cursor=cursor)
        seen += [run.identifier for run in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert sorted(seen) == sorted(made)
    assert len(seen) == 5
