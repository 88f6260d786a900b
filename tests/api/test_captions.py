"""Captions over HTTP: files that players read, of a whole video or of one clip."""

import io

import pytest
import webvtt
from fastapi.testclient import TestClient

from api.services import Services
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem

WORDS = [{"word": f"word{number}", "start": number, "end": number + 0.5} for number in range(60)]


@pytest.fixture
def moment(services: Services) -> str:
    """A refined moment of a talk of a minute, whose clip is from 10 to 20 s."""
    with services.database.session() as session:
        video = factories.video(session, identifier="talk")
        factories.transcript(session, video, word_timestamps=WORDS)
        root = factories.moment(session, video, 12, 18)
        factories.clip(session, root, start_time=10.0, end_time=20.0)
        return factories.refined(session, root).identifier


@pytest.mark.parametrize(("ending", "media_type"), [("vtt", "text/vtt"), ("srt", "application/x-subrip")])
def test_a_video_has_captions(
    client: TestClient, moment: str, statements: QueryCounter, ending: str, media_type: str
) -> None:
    with statements() as sent:
        response = client.get(f"/api/videos/talk/transcript.{ending}")
    assert len(sent) == 2
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert response.headers["content-disposition"] == f'attachment; filename="talk.{ending}"'
    read = webvtt.from_buffer(io.StringIO(response.text), format=ending)
    assert " ".join(caption.text for caption in read).split() == [word["word"] for word in WORDS]


def test_a_moment_has_captions_on_its_clips_clock(client: TestClient, moment: str, statements: QueryCounter) -> None:
    with statements() as sent:
        response = client.get("/api/videos/talk/transcript.vtt", params={"moment": moment})
    assert len(sent) == 3
    assert response.headers["content-disposition"] == f'attachment; filename="talk.{moment}.vtt"'
    captions = webvtt.from_buffer(io.StringIO(response.text))
    assert " ".join(caption.text for caption in captions).split() == [f"word{number}" for number in range(10, 20)]
    assert captions[0].start == "00:00:00.000"
    assert captions[-1].end <= "00:00:10.000"


def test_what_is_not_there_has_no_captions(client: TestClient, services: Services, moment: str) -> None:
    with services.database.session() as session:
        other = factories.video(session, identifier="silent")
        elsewhere = factories.moment(session, other).identifier
    assert_problem(client.get("/api/videos/silent/transcript.vtt"), 404, "not_found")
    assert_problem(client.get("/api/videos/nothing/transcript.srt"), 404, "not_found")
    for wrong in (elsewhere, "0" * 16):
        response = client.get("/api/videos/talk/transcript.vtt", params={"moment": wrong})
        assert wrong in assert_problem(response, 404, "not_found")["detail"]
    assert_problem(client.get("/api/videos/talk/transcript.vtt", params={"moment": "x"}), 422, "invalid_input")
