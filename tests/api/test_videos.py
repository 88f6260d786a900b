from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from api.services import Services
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem, store_video
from videomoments_dagster.storage import names

FIELDS = {
    "id", "filename", "title", "thumbnail_url", "has_audio", "has_transcript", "has_moments", "duration_seconds",
    "file_size_kb", "video_codec", "audio_codec", "resolution", "frame_rate", "cloud_url", "source_url", "created_at",
}  # fmt: skip


@pytest.fixture
def talk(services: Services) -> str:
    """A processed video with two moments, one refined, one clip and both kinds of thumbnails."""
    with services.database.session() as session:
        video = store_video(services, session, "talk", body=b"0123456789" * 1000, title="A talk", resolution="1280x720")
        factories.transcript(session, video, number_of_words=2)
        first, _ = factories.moment(session, video, 10, score=7), factories.moment(session, video, 40)
        factories.refined(session, first)
        name = names.clip("talk", first.identifier)
        services.store.put_bytes(name, b"clip", "video/mp4")
        clip = factories.clip(session, first, cloud_url=services.store.cloud_url(name))
        for owner, picture in ((video, names.video_thumbnail("talk")), (clip, names.clip_thumbnail("talk", "a"))):
            services.store.put_bytes(picture, b"jpg", "image/jpeg")
            factories.thumbnail(session, owner, cloud_url=services.store.cloud_url(picture))
    return "talk"


def test_a_video_has_the_fields_of_the_contract(client: TestClient, talk: str) -> None:
    body = client.get(f"/api/videos/{talk}").json()
    assert set(body) == FIELDS | {"number_of_moments", "number_of_refined_moments", "number_of_clips"}
    assert (body["id"], body["filename"], body["title"]) == ("talk", "talk.mp4", "A talk")
    assert (body["has_audio"], body["has_transcript"], body["has_moments"]) == (True, True, True)
    assert (body["number_of_moments"], body["number_of_refined_moments"], body["number_of_clips"]) == (2, 1, 1)
    (listed,) = client.get("/api/videos").json()["items"]
    assert set(listed) == FIELDS
    assert client.get(_path(listed["thumbnail_url"])).content == b"jpg"


def _path(url: str) -> str:
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("http", "testserver")
    return f"{parts.path}?{parts.query}"


def test_lists_are_pages_newest_first(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        for number in range(7):
            factories.video(session, identifier=f"v{number}", created_at=factories.minutes_later(number))
    seen, cursor, pages = [], None, 0
    while True:
        page = client.get("/api/videos", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [each["id"] for each in page["items"]]
        pages, cursor = pages + 1, page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"v{number}" for number in reversed(range(7))]
    assert pages == 3


def test_lists_can_be_filtered(client: TestClient, services: Services, talk: str) -> None:
    with services.database.session() as session:
        factories.video(session, identifier="other", title="100% Other_thing")
    ask = lambda **query: [each["id"] for each in client.get("/api/videos", params=query).json()["items"]]  # noqa: E731
    assert ask(q="TALK") == ["talk"]
    assert ask(q="100%") == ["other"]
    assert ask(q="%") == ["other"]
    assert ask(has_moments="true") == ["talk"]
    assert ask(has_moments="false") == ["other"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=garbage", "page=2", "has_moments=maybe", "limit=1&Limit=2"]
)
def test_a_query_that_can_not_be_understood_is_refused(client: TestClient, query: str) -> None:
    assert_problem(client.get(f"/api/videos?{query}"), 422, "invalid_input")


def test_a_list_takes_one_query_however_long(client: TestClient, services: Services, statements: QueryCounter) -> None:
    counts = []
    for number in range(3):
        with services.database.session() as session:
            for each in range(4):
                video = factories.video(session, identifier=f"v{number}-{each}")
                clip = factories.clip(session, factories.moment(session, video))
                factories.thumbnail(session, clip)
                factories.thumbnail(session, video)
        paths = ["/api/videos", "/api/pipeline/recent", "/api/videos/v0-0/moments", "/api/videos/v0-0/clips"]
        with statements() as sent:
            for path in paths:
                assert client.get(path).status_code == 200
        counts.append(len(sent))
    assert counts[0] == counts[1] == counts[2] <= 6


def test_transcript_moments_and_clips_have_the_fields_of_the_contract(client: TestClient, talk: str) -> None:
    transcript = client.get(f"/api/videos/{talk}/transcript").json()
    assert (transcript["text"], transcript["language"], transcript["number_of_words"]) == ("Hello there.", "en", 2)
    assert transcript["word_timestamps"][0] == {"word": "Hello", "start": 0.0, "end": 0.4}
    assert transcript["segment_timestamps"] == [{"text": "Hello there.", "start": 0.0, "end": 0.9}]

    moments = client.get(f"/api/videos/{talk}/moments").json()
    assert [each["start_time"] for each in moments] == [10, 11, 40]
    root, refined, bare = moments
    assert set(root) == {
        "id", "title", "start_time", "end_time", "is_refined", "parent_id", "model_name", "score", "clip_url",
        "thumbnail_url", "generation_config_id", "created_at", "updated_at",
    }  # fmt: skip
    assert (refined["is_refined"], refined["parent_id"]) == (True, root["id"])
    assert root["score"] == 7
    assert bare["clip_url"] is None
    assert client.get(_path(refined["clip_url"])).content == b"clip", "a refined moment plays its parent's clip"
    assert [each["id"] for each in client.get(f"/api/videos/{talk}/moments?refined=true").json()] == [refined["id"]]
    assert len(client.get(f"/api/videos/{talk}/moments?refined=false").json()) == 2

    (clip,) = client.get(f"/api/videos/{talk}/clips").json()
    assert (clip["moment_id"], clip["start_time"], clip["format"]) == (root["id"], 10, "mp4")
    assert client.get(_path(clip["url"])).content == b"clip"
    for moment in (root, refined):
        signed = client.get(f"/api/clips/{moment['id']}/url").json()
        assert signed["expires_in_seconds"] == 3600
        assert client.get(_path(signed["url"])).content == b"clip"
        assert client.get(f"/api/clips/{moment['id']}/stream").status_code == 302
    assert_problem(client.get(f"/api/clips/{bare['id']}/url"), 404, "not_found")


def test_media_are_redirects_to_signed_urls_and_never_proxied(client: TestClient, talk: str) -> None:
    for path, content in (
        (f"/api/videos/{talk}/stream", b"0123456789" * 1000),
        (f"/api/videos/{talk}/thumbnail", b"jpg"),
    ):
        response = client.get(path)
        assert response.status_code == 302
        assert response.content == b""
        assert client.get(_path(response.headers["location"])).content == content
    signed = client.get(f"/api/videos/{talk}/url").json()
    assert client.get(_path(signed["url"])).headers["content-type"] == "video/mp4"


def test_what_does_not_exist_yet_is_a_404_that_says_so(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        store_video(services, session, "fresh")
    for what in ("transcript", "thumbnail"):
        assert "yet" in assert_problem(client.get(f"/api/videos/fresh/{what}"), 404, "not_found")["detail"]
    assert client.get("/api/videos/fresh/moments").json() == []
    assert client.get("/api/videos/fresh/clips").json() == []


def test_a_row_of_another_store_does_not_hide_the_others(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        video = factories.video(session, identifier="foreign", cloud_url="gs://elsewhere/videos/foreign/foreign.mp4")
        factories.thumbnail(session, video)
    (listed,) = client.get("/api/videos").json()["items"]
    assert listed["thumbnail_url"] is None
    assert_problem(client.get("/api/videos/foreign/url"), 500, "storage_error")


@pytest.mark.parametrize(
    "path",
    [
        "/api/videos/{}", "/api/videos/{}/url", "/api/videos/{}/stream", "/api/videos/{}/thumbnail",
        "/api/videos/{}/transcript", "/api/videos/{}/moments", "/api/videos/{}/clips", "/api/pipeline/{}/status",
        "/api/pipeline/status/{}", "/api/pipeline/{}/history",
    ],
)  # fmt: skip
def test_an_unknown_video_is_a_404_and_an_impossible_one_a_422(client: TestClient, path: str) -> None:
    assert_problem(client.get(path.format("nobody")), 404, "not_found")
    assert_problem(client.get(path.format("a.b")), 422, "invalid_identifier")
    assert_problem(client.get(path.format("%00")), 422, "invalid_identifier")


def test_an_unknown_moment_is_a_404_and_an_impossible_one_a_422(client: TestClient) -> None:
    for what in ("url", "stream"):
        assert_problem(client.get(f"/api/clips/0123456789abcdef/{what}"), 404, "not_found")
        assert_problem(client.get(f"/api/clips/nothex/{what}"), 422, "invalid_input")


def test_many_requests_at_once_do_not_starve_the_pool(client: TestClient, services: Services, talk: str) -> None:
    paths = ["/api/videos", f"/api/videos/{talk}", f"/api/videos/{talk}/moments", f"/api/pipeline/{talk}/history"] * 40
    with ThreadPoolExecutor(len(paths)) as pool:
        codes = list(pool.map(lambda path: client.get(path).status_code, paths))
    assert codes == [200] * len(paths)
    for engine in (services.database.engine, services.database.reader):
        assert engine.pool.checkedout() == 0  # pyright: ignore[reportAttributeAccessIssue]
