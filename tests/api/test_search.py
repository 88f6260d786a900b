"""Search finds what is said at the word where it is said, and moments by their titles; pages are whole and ranked."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.services import Services
from db.queries import transcripts, videos
from db.queries.search import _CANDIDATES
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


@pytest.fixture
def spoken(services: Services) -> None:
    with services.database.session() as session:
        say(session, "spoken", SPOKEN)


def test_a_word_is_found_in_another_form_where_it_is_said(
    client: TestClient, talks: dict[str, list[str]], statements: QueryCounter
) -> None:
    with statements() as sent:
        [hit] = search(client, "tea")
    assert len(sent) == 1
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


def test_titles_are_found_by_words_beside_typographic_punctuation(client: TestClient, services: Services) -> None:
    title = "\u201cLanterns\u201d &\u00a0\u00c9T\u00c9\u2026"
    with services.database.session() as session:
        factories.moment(session, factories.video(session, identifier="titled"), 20, 30, title=title)
    [lantern], [summer] = search(client, "lantern"), search(client, "\u00e9t\u00e9")
    assert lantern["snippet"] == "\u201c<mark>Lanterns</mark>\u201d &amp;\u00a0\u00c9T\u00c9\u2026"
    assert summer["snippet"] == "\u201cLanterns\u201d &amp;\u00a0<mark>\u00c9T\u00c9</mark>\u2026"
    assert summer["start_time"] == 20
    assert len(search(client, '"lanterns \u00e9t\u00e9"')) == 1 and search(client, '"\u00e9t\u00e9 lanterns"') == []


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
            if number == 4:  # as if ten blocks of passages came between
                session.execute(
                    text("SELECT setval('transcript_passages_id_seq', max(id) + 20480) FROM transcript_passages")
                )
            say(session, f"talk-{number}", "Rivers everywhere.")
    old, new = ({f"talk-{number}" for number in numbers} for numbers in (range(4), range(4, 8)))
    monkeypatch.setitem(_CANDIDATES, "newest", 3)
    common = {hit["video_id"] for hit in search(client, "river")}
    assert len(common) == 3 and common < new
    monkeypatch.setitem(_CANDIDATES, "newest", 5)
    monkeypatch.setitem(_CANDIDATES, "others", 2)
    found = {hit["video_id"] for hit in search(client, "river")}
    assert len(found & old) == 2 and found > new
    assert {hit["video_id"] for hit in search(client, '"rivers everywhere"')} == old | new
    monkeypatch.setitem(_CANDIDATES, "phrases", 3)
    assert len(search(client, '"rivers everywhere"')) == 3


SPOKEN = (
    "\u201cGreen tea\u2026 that\u2019s brewing\u201d\u2014slowly\u2014in a well\u2011known CAF\u00c9 \u2013 "
    "l\u2019\u00c9COLE, \u00abnai\u0308ve\u00bb re\u0301sume\u0301 soft\u00adware "
    "\u041f\u0420\u0418\u0412\u0415\u0422 Stra\u00dfe \u039f\u0394\u039f\u03a3 30\u20ac end\u3002"
)


@pytest.mark.parametrize(
    ("q", "shown", "word"),
    [
        ("green", "\u201c<mark>Green</mark> tea\u2026", 0),
        ("tea", "<mark>tea</mark>\u2026 that\u2019s", 1),
        ("tea\u2026", "<mark>tea</mark>\u2026 that\u2019s", 1),
        ("brew", "<mark>brewing</mark>\u201d\u2014slowly\u2014in", 3),
        ("slowly", "brewing\u201d\u2014<mark>slowly</mark>\u2014in a", 3),
        ("known", "well\u2011<mark>known</mark> CAF\u00c9", 5),
        ("caf\u00e9", "<mark>CAF\u00c9</mark> \u2013", 6),
        ("cafe\u0301", "<mark>CAF\u00c9</mark> \u2013", 6),
        ("\u00e9cole", "l\u2019<mark>\u00c9COLE</mark>,", 8),
        ("NA\u00cfVE", "<mark>\u00abnai\u0308ve\u00bb</mark> ", 9),
        ("r\u00e9sum\u00e9", "<mark>re\u0301sume\u0301</mark>", 10),
        ("software", "<mark>soft\u00adware</mark>", 11),
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "<mark>\u041f\u0420\u0418\u0412\u0415\u0422</mark>", 12),
        ("STRA\u1e9eE", "<mark>Stra\u00dfe</mark>", 13),
        ("\u03bf\u03b4\u03bf\u03c2", "<mark>\u039f\u0394\u039f\u03a3</mark>", 14),
        ("30", "<mark>30</mark>\u20ac", 15),
        ("end", "<mark>end</mark>\u3002", 16),
        ("\u201cgreen tea\u201d", "\u201c<mark>Green</mark> <mark>tea</mark>\u2026", 0),
        ("\u201ctea green\u201d", None, 0),
        ("green \u2212tea", None, 0),
    ],
)
def test_words_are_found_beside_typographic_punctuation_and_in_any_case(
    client: TestClient, spoken: None, q: str, shown: str | None, word: int
) -> None:
    hits = search(client, q)
    assert [hit["start_time"] for hit in hits] == ([] if shown is None else [word / 2])
    assert all(shown in hit["snippet"] for hit in hits if shown)


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
