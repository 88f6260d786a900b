"""Conditional requests and compression: what is known is not sent again, and what is sent is the same either way."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient

from api.conditional import Compressed, Conditional
from api.services import Services
from db.queries import videos
from tests import factories
from tests.api.conftest import store_video
from videomoments_dagster.storage import names


@pytest.fixture
def talk(services: Services) -> str:
    """A video with a clip, so that its moments are shown with a signed URL."""
    with services.database.session() as session:
        video = store_video(services, session, "talk")
        root = factories.moment(session, video, identifier="aaaaaaaaaaaaaaaa")
        name = names.clip("talk", root.identifier)
        services.store.put_bytes(name, b"clip", "video/mp4")
        factories.clip(session, root, cloud_url=services.store.cloud_url(name))
    return "talk"


PATHS = ("/api/videos", "/api/videos/talk", "/api/videos/talk/moments", "/api/videos/talk/clips")


def test_what_is_known_is_a_304_without_a_body_and_what_changed_is_sent(
    client: TestClient, services: Services, talk: str
) -> None:
    tags = {}
    for path in PATHS:
        first = client.get(path)
        tags[path] = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        for known in (tags[path], f'"other", {tags[path]}', tags[path].removeprefix("W/"), "*"):
            again = client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b""), (path, known)
            assert again.headers["etag"] == tags[path]
            assert again.headers["vary"] == "Accept-Encoding"
            assert "content-type" not in again.headers
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    with services.database.session() as session:
        videos.require(session, talk).title = "Another title"
    changed = {path for path in PATHS if client.get(path, headers={"If-None-Match": tags[path]}).status_code == 200}
    assert changed == {"/api/videos", "/api/videos/talk"}


def test_the_document_says_which_answers_have_tags(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/api/videos", "/api/videos/{video}/moments/{moment}", "/api/pipeline/{video}/status"):
        operation = paths[path]["get"]
        assert "ETag" in operation["responses"]["200"]["headers"]
        assert "304" in operation["responses"]
        assert "if-none-match" in {each["name"] for each in operation["parameters"]}
    for path in ("/health", "/api/videos/{video}/stream"):
        assert "304" not in paths[path]["get"]["responses"]
    patched = paths["/api/videos/{video}/moments/{moment}"]["patch"]
    assert "412" in patched["responses"]
    assert "if-match" in {each["name"] for each in patched["parameters"]}


def test_head_is_get_without_its_body(client: TestClient, talk: str) -> None:
    for path in (*PATHS, "/api/videos/talk/stream", "/api/videos/nobody"):
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        for header in ("etag", "content-length", "content-type", "location"):
            assert head.headers.get(header) == get.headers.get(header), (path, header)
    assert client.head(PATHS[0], headers={"If-None-Match": "*"}).status_code == 304
    assert client.head("/api/videos/talk/retry").status_code in {404, 405}


def test_only_what_was_read_well_has_a_tag(client: TestClient, talk: str) -> None:
    for path in ("/api/videos/nobody", "/api/videos?limit=0", "/health", "/api/videos/talk/stream"):
        response = client.get(path, headers={"If-None-Match": "*"})
        assert response.status_code != 304
        assert "etag" not in response.headers


def test_a_long_answer_is_compressed_and_has_the_same_tag(client: TestClient, services: Services, talk: str) -> None:
    with services.database.session() as session:
        video = videos.require(session, talk)
        for number in range(50):
            factories.moment(session, video, number * 10.0)
    path = "/api/videos/talk/moments"
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 4
    assert packed.json() == plain.json()
    assert packed.headers["etag"] == plain.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"] and "Accept-Encoding" in packed.headers["vary"]
    assert client.get(path, headers={"If-None-Match": packed.headers["etag"]}).status_code == 304


def test_a_stored_object_is_never_compressed(client: TestClient, services: Services) -> None:
    services.store.put_bytes("answers/talk/big.json", json.dumps(["word"] * 1000).encode(), "application/json")
    url = services.store.signed_url("answers/talk/big.json").removeprefix(services.settings.public_url)
    response = client.get(url, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in response.headers
    assert client.get(url, headers={"Range": "bytes=2-5"}).content == b"word"


def test_events_and_streams_pass_as_they_are_sent() -> None:
    app: Any = FastAPI()
    app.add_middleware(Conditional)
    app.add_middleware(Compressed)

    async def pieces():
        for number in range(3):
            yield f"data: {number} {'x' * 2000}\n\n"

    @app.get("/api/events")
    def events() -> StreamingResponse:
        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.get("/api/rows")
    def rows() -> StreamingResponse:
        return StreamingResponse(pieces(), media_type="application/json")

    @app.post("/api/change")
    def change() -> JSONResponse:
        return JSONResponse({"done": True})

    client = TestClient(app)
    for path in ("/api/events", "/api/rows"):
        response = client.get(path, headers={"If-None-Match": "*", "Accept-Encoding": "gzip"})
        assert response.status_code == 200
        assert response.text.count("data: ") == 3
        assert "etag" not in response.headers
        assert ("content-encoding" in response.headers) == (path == "/api/rows")
    assert "etag" not in client.post("/api/change", headers={"If-None-Match": "*"}).headers


@pytest.mark.parametrize("taken", ["gzip", "identity"])
def test_caches_are_told_once_that_others_are_answered_otherwise(client: TestClient, talk: str, taken: str) -> None:
    headers = {"Accept-Encoding": taken}
    known = {**headers, "If-None-Match": client.get("/api/videos", headers=headers).headers["etag"]}
    answers = [
        client.get("/health/live", headers=headers),
        client.get("/api/videos", headers=headers),
        client.get("/api/videos", headers=known),
        client.head("/api/videos", headers=headers),
        client.get("/openapi.json", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 304, 200, 200]
    assert {answer.headers["vary"] for answer in answers} == {"Accept-Encoding"}
