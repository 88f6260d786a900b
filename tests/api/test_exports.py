"""Exports over HTTP: one moment set in every format, under a safe name. What the files hold: tests/exports."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import opentimelineio as otio
import pytest
from fastapi.testclient import TestClient

from api.services import Services
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem

ROOT = Path(__file__).parent.parent.parent


def _titles_in_otio(text: str) -> list[str]:
    timeline: Any = otio.adapters.read_from_string(text, "otio_json")
    return [clip.name for clip in timeline.find_clips()]


READERS: dict[str, tuple[str, str, Callable[[str], list[str]]]] = {
    "csv": (
        "talk.moments.csv",
        "text/csv; charset=utf-8",
        lambda text: [row.split(",")[1] for row in text.split("\r\n")[1:-1]],
    ),
    "chapters": (
        "talk.chapters.txt",
        "text/plain; charset=utf-8",
        lambda text: [row.partition(" ")[2] for row in text.splitlines()],
    ),
    "edl": (
        "talk.edl",
        "text/plain; charset=utf-8",
        lambda text: [row.split("GREEN")[1].strip() for row in text.splitlines() if "LOC" in row],
    ),
    "otio": ("talk.otio", "application/json", _titles_in_otio),
    "fcpxml": (
        "talk.fcpxml",
        "application/xml",
        lambda text: [str(clip.get("name")) for clip in ET.fromstring(text).iter("asset-clip")],  # noqa: S314  # our own
    ),
}


@pytest.fixture
def talk(services: Services) -> None:
    """Three root moments, of which the second has a refined child."""
    with services.database.session() as session:
        video = factories.video(session, identifier="talk", frame_rate=25.0, resolution="1280x720")
        factories.moment(session, video, 0, 20, title="One")
        root = factories.moment(session, video, 100, 120, title="Two")
        factories.moment(session, video, 200, 220, title="Three")
        factories.refined(session, root, title="Two, better")


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("kind", READERS)
def test_every_format_holds_the_same_moments(client: TestClient, statements: QueryCounter, kind: str) -> None:
    name, media_type, read = READERS[kind]
    with statements() as sent:
        response = client.get("/api/videos/talk/export", params={"format": kind, "refined": False})
    assert len(sent) == 2
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == media_type
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert read(response.text) == ["One", "Two", "Three"]


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ({}, ["One", "Two, better", "Three"]),
        ({"refined": True}, ["Two, better"]),
        ({"refined": False}, ["One", "Two", "Three"]),
    ],
)
def test_a_refined_moment_stands_for_its_root(client: TestClient, query: dict[str, Any], titles: list[str]) -> None:
    document = client.get("/api/videos/talk/export", params={"format": "json", **query}).json()
    assert [moment["title"] for moment in document["moments"]] == titles
    assert document["video"]["file_name"] == "talk.mp4"


@pytest.mark.usefixtures("talk")
def test_what_cannot_be_exported_is_a_problem(client: TestClient, services: Services) -> None:
    with services.database.session() as session:
        factories.video(session, identifier="bare", frame_rate=None, audio_codec=None, duration_seconds=None)
    problem = assert_problem(client.get("/api/videos/bare/export", params={"format": "chapters"}), 409, "conflict")
    assert "another format" in problem["hint"]
    for kind in ("json", "csv", "edl", "otio", "fcpxml"):
        assert client.get("/api/videos/bare/export", params={"format": kind}).status_code == 200
    assert_problem(client.get("/api/videos/nothing/export", params={"format": "json"}), 404, "not_found")
    assert_problem(client.get("/api/videos/talk/export", params={"format": "pdf"}), 422, "invalid_input")
    assert_problem(client.get("/api/videos/talk/export"), 422, "invalid_input")


def test_the_timeline_library_is_loaded_by_those_who_ask_for_it() -> None:
    program = "import sys, videomoments_dagster.exports.formats; sys.exit('opentimelineio' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
