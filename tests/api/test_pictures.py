"""Pictures that nobody has made yet: made once, on demand, from the real media, and kept as the pipeline would."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import pictures
from api.services import Services
from db.queries import thumbnails, videos
from tests import factories
from tests.api.conftest import assert_problem, store_video
from tests.media.make import Drawing, draw
from tests.storage import bucket_server
from tests.storage.test_gcs import open_at
from videomoments_dagster.storage import names

ROOT, CHILD = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
VIDEO, CLIP = "/api/videos/talk/thumbnail", f"/api/clips/{CHILD}/thumbnail"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return draw(tmp_path_factory.mktemp("film") / "film.mp4", Drawing(seconds=2.0, audio=None)).read_bytes()


@pytest.fixture
def talk(services: Services, film: bytes) -> str:
    with services.database.session() as session:
        video = store_video(services, session, "talk", film, duration_seconds=2.0)
        root = factories.moment(session, video, 0, 2, identifier=ROOT)
        factories.refined(session, root, identifier=CHILD, start_time=0.5, end_time=1.5)
        name = names.clip("talk", ROOT)
        services.store.put_bytes(name, film, "video/mp4")
        factories.clip(session, root, cloud_url=services.store.cloud_url(name))
    return "talk"


def temporary_files(services: Services) -> list[Path]:
    temp = services.settings.temp_directory
    return [path for path in temp.rglob("*") if path.is_file()] if temp.exists() else []


def test_a_missing_picture_is_made_once_for_all_who_ask(
    client: TestClient, services: Services, talk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, made = pictures._still, []

    def counted(source: Path, at_seconds: float, destination: Path) -> Path:
        made.append(at_seconds)
        return still(source, at_seconds, destination)

    monkeypatch.setattr(pictures, "_still", counted)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(client.get, [VIDEO, CLIP] * 3))
    answers += [client.get(VIDEO), client.get(CLIP)]
    assert sorted(made) == [0.2, 1.0]
    assert {each.status_code for each in answers} == {302}
    for location in {each.headers["location"] for each in answers}:
        picture = client.get(location.removeprefix(services.settings.public_url))
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content.startswith(b"\xff\xd8\xff")
    with services.database.read() as session:
        shown = thumbnails.of_video(session, videos.require(session, talk).id)
    assert [each.moment_identifier for each in shown] == [None, ROOT]
    assert client.get("/api/videos/talk").json()["thumbnail_url"]
    assert temporary_files(services) == []


def test_what_gives_no_picture_is_a_404_that_says_why(
    client: TestClient, services: Services, talk: str, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, read = pictures._still, []

    def counted(source: Path, at_seconds: float, destination: Path) -> Path:
        read.append(source.name)
        return still(source, at_seconds, destination)

    monkeypatch.setattr(pictures, "_still", counted)
    with services.database.session() as session:
        store_video(services, session, "broken", b"no video at all")
        store_video(services, session, "sound", film, video_codec=None)
        factories.video(session, identifier="lost", cloud_url=services.store.cloud_url("videos/lost/lost.mp4"))
        factories.video(session, identifier="foreign", cloud_url="gs://elsewhere/videos/foreign/foreign.mp4")
        bare = factories.moment(session, videos.require(session, talk)).identifier
    for video in ("broken", "broken", "lost", "foreign", "sound"):
        problem = assert_problem(client.get(f"/api/videos/{video}/thumbnail"), 404, "not_found")
        assert problem["hint"], video
        assert services.store.stat(names.video_thumbnail(video)) is None
    assert_problem(client.get(f"/api/clips/{bare}/thumbnail"), 404, "not_found")
    assert temporary_files(services) == []
    assert read == ["broken.mp4"], "once: what gave no picture is not read again at once"
    services.store.put_bytes(names.video("broken", "mp4"), film, "video/mp4")
    assert client.get("/api/videos/broken/thumbnail").status_code == 302, "it is another file now"


def test_a_large_video_is_not_copied_from_a_bucket_for_its_picture(
    app: FastAPI, client: TestClient, services: Services, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket_server.running() as server:
        here = app.state.services = replace(services, store=open_at(server))
        with services.database.session() as session:
            store_video(here, session, "talk", film, duration_seconds=2.0)
        monkeypatch.setattr(pictures, "LARGEST_COPY_BYTES", len(film) - 1)
        problem = assert_problem(client.get(VIDEO), 404, "not_found")
        assert "too large" in problem["detail"] and "pipeline" in problem["hint"]
        assert not any(call.startswith("GET /download") for call in server.calls)
        monkeypatch.setattr(pictures, "LARGEST_COPY_BYTES", len(film))
        assert pictures._make_of_video(here, "talk") == here.store.cloud_url(names.video_thumbnail("talk"))
        assert any(call.startswith("GET /download") for call in server.calls)


def test_a_picture_of_what_was_deleted_meanwhile_is_not_kept(
    client: TestClient, services: Services, talk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = pictures._still

    def still_of_what_is_then_deleted(source: Path, at_seconds: float, destination: Path) -> Path:
        made = still(source, at_seconds, destination)
        with services.database.session() as session:
            session.delete(videos.require(session, talk))
        return made

    monkeypatch.setattr(pictures, "_still", still_of_what_is_then_deleted)
    assert_problem(client.get(VIDEO), 404, "not_found")
    assert services.store.stat(names.video_thumbnail(talk)) is None
