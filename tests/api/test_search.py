"""Search finds what is said at the word where it is said, and moments by their titles; pages are whole and ranked."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.services import Services
from db.queries import transcripts, videos
from db.queries.search import _CANDIDATES, page
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem

FILLER = ["well", "then", "we", "walked", "on", "along", "that", "quiet", "road", "until", "evening", "came"]


def say(session: Session, identifier: str, *sentences: str, title: str | None = None) -> list[str]:
    """A video in which every word takes half a second; returns its words."""
    video = factories.video(session, identifier=identifier, title=title)
    words, segments = [], []
    for sentence in sentences:
        first = len(words)
        for word in sentence.split():
            words.append({"word": word, "start": len(words) / 2, "end": len(words) / 2 + 0.4})
        segments.append({"text": sentence, "start": first / 2, "end": words[-1]["end"]})
    transcripts.replace(
        session,
        video.id,
        full_text=" ".join(sentences),
        word_timestamps=words,
        segment_timestamps=segments,
        language="en",
        transcription_service="builtin_speech",
        processing_time_seconds=1.0,
    )
    return [word["word"] for word in words]


def search(client: TestClient, q: str, **query: Any) -> list[dict[str, Any]]:
    response = client.get("/api/search", params={"q": q, **query})
    assert response.status_code == 200, response.text
    return response.json()["items"]


@pytest.fixture
def talks(services: Services) -> dict[str, list[str]]:
    long = " ".join(FILLER * 3)
    with services.database.session() as session:
        return {
            "tea": say(session, "tea", f"{long}.", f"{long} brewing green teas.", f"{long} at once.", title="On <tea>"),
            "coffee": say(
                session,
                "coffee",
                "Coffee & milk <b>are</b> not green.",
                "That machine is old; it is not machine learning.",
            ),
        }


def test_a_word_is_found_in_another_form_where_it_is_said(
    client: TestClient, talks: dict[str, list[str]], statements: QueryCounter
) -> None:
    with statements() as sent:
        [hit] = search(client, "tea")
    assert len(sent) == 2
    said_at = talks["tea"].index("teas.") / 2
    assert hit | {"rank": 0, "snippet": "", "end_time": 0} == {
        "kind": "transcript",
        "video_id": "tea",
        "video_title": "On <tea>",
        "moment_id": None,
        "start_time": said_at,
        "end_time": 0,
        "snippet": "",
        "rank": 0,
    }
    assert "brewing green <mark>teas</mark>." in hit["snippet"]
    assert hit["end_time"] > said_at and hit["rank"] > 0


@pytest.mark.parametrize(
    ("q", "videos"),
    [
        ("green", {"tea", "coffee"}),
        ("green -milk", {"tea"}),
        ("brewing or milk", {"tea", "coffee"}),
        ('"green teas"', {"tea"}),
        ('"teas green"', set()),
        ("teas milk", set()),
        ("nowhere", set()),
        ("the of and", set()),
        ("!!! & | ( :* '", set()),
    ],
)
def test_queries_are_written_as_for_the_web(
    client: TestClient, talks: dict[str, list[str]], q: str, videos: set[str]
) -> None:
    assert {hit["video_id"] for hit in search(client, q)} == videos


def test_a_phrase_starts_where_all_of_it_is_said(client: TestClient, talks: dict[str, list[str]]) -> None:
    [hit] = search(client, '"machine learning"')
    assert hit["start_time"] == talks["coffee"].index("learning.") / 2 - 0.5


def test_snippets_are_safe_html(client: TestClient, talks: dict[str, list[str]]) -> None:
    [hit] = search(client, "milk")
    assert "Coffee &amp; <mark>milk</mark> &lt;b&gt;are&lt;/b&gt; not green." in hit["snippet"]


def test_moments_are_found_by_their_titles_and_come_first(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        say(session, "talk", "We speak of lanterns here.")
        video = factories.video(session, identifier="other")
        root = factories.moment(session, video, 20, 30, title="Lanterns & lamps")
        child = factories.refined(session, root)
    moment, transcript = search(client, "lantern")
    assert (moment["kind"], moment["moment_id"], moment["video_id"]) == ("moment", child.identifier, "other")
    assert (moment["start_time"], moment["end_time"]) == (21, 29)
    assert moment["snippet"] == "<mark>Lanterns</mark> &amp; lamps"
    assert (transcript["kind"], transcript["video_id"]) == ("transcript", "talk")
    assert moment["rank"] > transcript["rank"]


def test_pages_hold_every_hit_once_and_in_order(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        for number in range(7):
            say(session, f"talk-{number}", f"Rivers {'and rivers ' * (number % 3)}everywhere.")
        video = factories.video(session, identifier="titled")
        for start in range(4):
            factories.moment(session, video, start * 20, title="Rivers")
    whole = search(client, "river")
    assert len(whole) == 11
    pages: list[dict[str, Any]] = []
    query: dict[str, Any] = {"q": "river", "limit": 2}
    while query:
        body = client.get("/api/search", params=query).json()
        pages += body["items"]
        query = query | {"cursor": body["next_cursor"]} if body["next_cursor"] else {}
    assert pages == whole
    assert [hit["rank"] for hit in whole] == sorted((hit["rank"] for hit in whole), reverse=True)


def test_of_very_common_words_the_newest_are_ranked_and_of_others_some_more(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.database.session() as session:
        for number in range(8):
            say(session, f"talk-{number}", "Rivers everywhere.")
    monkeypatch.setitem(_CANDIDATES, "newest_read", 4)
    monkeypatch.setitem(_CANDIDATES, "newest", 3)
    assert {hit["video_id"] for hit in search(client, "river")} == {"talk-5", "talk-6", "talk-7"}
    monkeypatch.setitem(_CANDIDATES, "newest", 5)
    monkeypatch.setitem(_CANDIDATES, "passages", 2)
    found = {hit["video_id"] for hit in search(client, "river")}
    assert found == {"talk-0", "talk-1", "talk-4", "talk-5", "talk-6", "talk-7"}


def test_whole_tables_are_read_by_no_plan_of_a_search_and_the_setting_ends_with_it(services: Services) -> None:
    shown = text("SHOW enable_seqscan")
    with services.database.session() as session:
        page(session, "tea", limit=1)
        assert session.scalar(shown) == "off"
    with services.database.session() as session:
        assert session.scalar(shown) == "on"


def test_a_replaced_or_deleted_transcript_is_not_found(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        say(session, "talk", "Rivers everywhere.")
    assert search(client, "river")
    with services.database.session() as session:
        transcripts.replace(
            session,
            videos.require(session, "talk").id,
            full_text="Mountains.",
            word_timestamps=[],
            segment_timestamps=[{"text": "Mountains.", "start": 3.5, "end": 4.0}],
            language="en",
            transcription_service="builtin_speech",
            processing_time_seconds=None,
        )
    assert search(client, "river") == []
    assert [hit["start_time"] for hit in search(client, "mountain")] == [3.5]
    assert client.delete("/api/videos/talk").status_code == 204
    assert search(client, "mountain") == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": ""},
        {"q": "-milk"},
        {"q": "x" * 201},
        {"q": "a\0b"},
        {"q": "tea", "limit": 0},
        {"q": "tea", "limit": 201},
        {"q": "tea", "cursor": "AAAA"},
        {"q": "tea", "cursor": "!"},
        {"q": "tea", "page": 2},
    ],
)
def test_what_cannot_be_asked_is_refused(client: TestClient, query: dict[str, Any]) -> None:
    assert_problem(client.get("/api/search", params=query), 422, "invalid_input")


def test_in_a_script_without_spaces_what_was_transcribed_as_a_word_is_found(
    client: TestClient, services: Services
) -> None:
    """As docs/exports.md says: nothing more, and nothing less."""
    with services.database.session() as session:
        say(session, "walk", "\u6211\u4eec \u6bcf\u5929 \u8d70\u8def")
    words, run, part = "\u8d70\u8def \u6211\u4eec", "\u6211\u4eec\u8d70\u8def", "\u8d70"
    assert [hit["video_id"] for hit in search(client, words)] == ["walk"]
    assert "<mark>\u8d70\u8def</mark>" in search(client, words)[0]["snippet"]
    assert search(client, run) == search(client, part) == []
