"""Failures: the newest run of each video and no other, with what its request's error tells."""

import json
from typing import Any

import pytest
from sqlalchemy.orm import Session

from db.models import PipelineRun, Video
from db.queries import failures
from tests import factories as make
from tests.db.conftest import QueryCounter
from videomoments_dagster.errors import InvalidInput

ERROR = {
    "stage": "AUDIO_EXTRACTION",
    "code": "no_audio",
    "message": "No audio.",
    "hint": "Use another.",
    "retryable": False,
}
_TOLD = {"error_stage": "AUDIO_EXTRACTION", "error_message": "No audio. Use another."}


def failed(session: Session, of: Video | str, minute: float, status: str = "failed", **values: Any) -> PipelineRun:
    name = of if isinstance(of, str) else of.identifier
    return make.run(
        session,
        None if isinstance(of, str) else of,
        identifier=f"pipeline:{name}:{1_767_000_000_000 + int(minute * 60_000)}",
        status=status,
        started_at=make.minutes_later(minute),
        **{**_TOLD, **values},
    )


def names(session: Session) -> list[str]:
    return [each.video_identifier for each in failures.every(session)]


def test_a_failure_says_what_its_requests_error_says(session: Session) -> None:
    video = make.video(session, identifier="talk")
    request = make.request(
        session, "talk", state="finished", requested_at=make.minutes_later(0), error=json.dumps(ERROR)
    )
    run = failed(session, video, 1, completed_at=make.minutes_later(2))
    assert failures.page(session).items == [
        failures.FailureView(
            "talk", run.identifier, "failed", make.minutes_later(2), "AUDIO_EXTRACTION", "no_audio", "No audio.",
            "Use another.", False, request.request_id,
        )
    ]  # fmt: skip


@pytest.mark.parametrize("error", [None, "it broke", json.dumps({**ERROR, "message": "Another one."}), "[]"])
def test_a_run_that_no_requests_error_is_about_is_told_by_its_history(session: Session, error: str | None) -> None:
    make.request(session, "talk", state="finished", requested_at=make.minutes_later(0), error=error)
    failed(session, make.video(session, identifier="talk"), 1)
    [failure] = failures.page(session).items
    assert (failure.message, failure.hint, failure.code) == ("No audio. Use another.", "", None)
    assert (failure.retryable, failure.request_id) == (None, None)


def test_only_the_newest_run_of_a_video_counts_and_only_while_nothing_is_asked_of_it(session: Session) -> None:
    stands, mended, cancelled, again = (
        make.video(session, identifier=name) for name in ("stands", "mended", "cancelled", "again")
    )
    for video in (stands, mended, cancelled, again):
        failed(session, video, 1)
    failed(session, stands, 3, status="partial")
    failed(session, mended, 3, status="completed")
    failed(session, cancelled, 3, status="cancelled")
    make.request(session, "again", state="queued", requested_at=make.minutes_later(4))
    failed(session, "never-stored", 1)
    failed(session, "never-stored", 2)
    failed(session, "tried-again", 1)
    failed(session, "tried-again", 5, status="running")
    assert names(session) == ["stands", "never-stored"]


def test_pages_go_through_all_of_them_newest_first_in_one_query_each(
    session: Session, statements: QueryCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        failed(session, make.video(session, identifier=f"v{number}"), number)
    monkeypatch.setattr(failures, "MAX_LIMIT", 2)
    with statements() as sent:
        assert names(session) == ["v4", "v3", "v2", "v1", "v0"]
    assert len(sent) == 3
    with pytest.raises(InvalidInput):
        failures.page(session, cursor="nonsense")
