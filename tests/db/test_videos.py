"""Videos: what is upserted, what lists show, in how many queries, and page by page."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from db.queries import deletion, runs, videos
from tests import factories as make
from tests.db.conftest import QueryCounter
from videomoments_dagster.errors import InvalidInput, NotFound

STORED: dict[str, Any] = {
    "source_url": "https://example.org/talk.mp4",
    "cloud_url": "gs://bucket/videos/talk/talk.mp4",
    "title": "A talk",
    "duration_seconds": 90.5,
    "file_size_kb": 3_000_000_000,
    "video_codec": "h264",
    "audio_codec": "aac",
    "resolution": "1920x1080",
    "frame_rate": 29.97,
}


def test_upsert_inserts_every_column(session: Session) -> None:
    video = videos.upsert(session, "talk", **STORED)
    assert {name: getattr(video, name) for name in STORED} == STORED
    assert videos.require(session, "talk") is video


def test_upsert_again_updates_the_same_row(session: Session) -> None:
    first = videos.upsert(session, "talk", **STORED).id
    changed = {**STORED, "source_url": None, "cloud_url": "gs://bucket/talk.webm", "audio_codec": None, "title": "New"}
    again = videos.upsert(session, "talk", **changed)
    assert again.id == first
    assert {name: getattr(again, name) for name in STORED} == changed


def test_upsert_without_a_title_keeps_the_one_there_is(session: Session) -> None:
    videos.upsert(session, "talk", **STORED)
    assert videos.upsert(session, "talk", **{**STORED, "title": None}).title == "A talk"


def test_runs_that_failed_before_the_video_was_stored_become_its_runs(session: Session) -> None:
    mine = make.run(session, None, identifier="pipeline:talk:1")
    other = make.run(session, None, identifier="pipeline:talk-2:1")
    video = videos.upsert(session, "talk", **STORED)
    session.refresh(mine)
    session.refresh(other)
    assert (mine.video_id, other.video_id) == (video.id, None)


def test_a_missing_video_is_named(session: Session) -> None:
    assert videos.get(session, "nobody") is None
    for ask in (videos.overview("nobody").run, videos.existing("nobody").run, lambda s: videos.require(s, "nobody")):
        with pytest.raises(NotFound, match="nobody"):
            ask(session)


def test_by_source_url_takes_the_newest(session: Session) -> None:
    for minutes in (1, 3, 2):
        make.video(session, identifier=f"v{minutes}", source_url="u", created_at=make.minutes_later(minutes))
    found = videos.by_source_url(session, "u")
    assert found is not None
    assert found.identifier == "v3"
    assert videos.by_source_url(session, "U") is None


def test_overview_tells_what_there_is(session: Session) -> None:
    video = make.video(session, identifier="talk")
    bare = videos.overview("talk").run(session)
    assert not (bare.summary.has_transcript or bare.summary.has_moments or bare.summary.thumbnail_cloud_url)
    assert bare[1:] == (0, 0, 0)
    make.transcript(session, video)
    roots = [make.moment(session, video, start) for start in (0, 20, 40)]
    make.refined(session, roots[0])
    clip = make.clip(session, roots[0])
    make.thumbnail(session, clip)
    make.thumbnail(session, video, cloud_url="gs://bucket/talk.jpg")
    full = videos.overview("talk").run(session)
    assert full.summary.has_transcript
    assert full.summary.has_moments
    assert videos.page(limit=1).run(session).items == [full.summary]
    assert (full.number_of_moments, full.number_of_refined_moments, full.number_of_clips) == (3, 1, 1)
    assert full.summary.thumbnail_cloud_url == "gs://bucket/talk.jpg"


def test_a_page_is_one_query_whatever_is_on_it(session: Session, statements: QueryCounter) -> None:
    for _ in range(5):
        video = make.video(session)
        make.transcript(session, video)
        make.thumbnail(session, make.clip(session, make.moment(session, video)))
        make.thumbnail(session, video)
    with statements() as sent:
        page = videos.page(limit=5).run(session)
    assert len(page.items) == 5
    assert len(sent) == 1


def test_pages_go_through_everything_once_newest_first(session: Session) -> None:
    """Also where several were stored at the same instant, and while new ones arrive."""
    for number in range(7):
        make.video(session, identifier=f"v{number}", created_at=make.minutes_later(number // 3))
    seen: list[str] = []
    cursor = None
    while True:
        page = videos.page(limit=2, cursor=cursor).run(session)
        seen += [item.identifier for item in page.items]
        make.video(session, created_at=make.minutes_later(1000))
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ["v6", "v5", "v4", "v3", "v2", "v1", "v0"]


def test_the_last_page_has_no_cursor_even_when_full(session: Session) -> None:
    for _ in range(2):
        make.video(session)
    assert videos.page(limit=2).run(session).next_cursor is None
    assert videos.page(limit=1).run(session).next_cursor is not None


def test_q_finds_part_of_a_title_or_an_identifier_in_any_case(session: Session) -> None:
    make.video(session, identifier="alpha", title="Tea ceremony")
    make.video(session, identifier="STEAM", title=None)
    make.video(session, identifier="other", title="Coffee")
    assert {item.identifier for item in videos.page(q="tEa").run(session).items} == {"alpha", "STEAM"}


@pytest.mark.parametrize("q", ["%", "_", "/", "\\", "100%"])
def test_q_is_taken_literally(session: Session, q: str) -> None:
    make.video(session, identifier="with", title=f"before {q} after")
    make.video(session, identifier="without", title="before 100 after")
    assert [item.identifier for item in videos.page(q=q).run(session).items] == ["with"]


def test_has_moments_filters_both_ways(session: Session) -> None:
    make.moment(session, make.video(session, identifier="with"))
    make.video(session, identifier="without")
    assert [item.identifier for item in videos.page(has_moments=True).run(session).items] == ["with"]
    assert [item.identifier for item in videos.page(has_moments=False).run(session).items] == ["without"]


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_limit_outside_the_bounds_is_bad_input(session: Session, limit: int) -> None:
    with pytest.raises(InvalidInput, match=str(limit)):
        videos.page(limit=limit).run(session)


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "AAAA", "MjAyNi0wMS0wMSBh", "MjAyNi0wMS0wMVQwMDowMDowMCswMDowMCA", "A" * 5]
)
def test_a_cursor_that_no_page_gave_is_bad_input(session: Session, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        videos.page(cursor=cursor).run(session)


def test_deleting_takes_the_history_of_a_long_identifier_too(session: Session) -> None:
    identifier = "x" * 100
    runs.record(
        session,
        video_identifier=identifier,
        pipeline_type="full",
        status="failed",
        started_at=make.minutes_later(0),
    )
    assert deletion.delete_rows(session, identifier)["pipeline_history"] == 1
    assert runs.page(session, identifier).items == []
