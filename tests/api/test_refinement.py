"""Refining one moment over HTTP, and the raw answers behind what models made."""

import gzip
import json

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from api.services import Services
from db.queries import requests as request_queries
from db.queries import videos
from tests import factories
from tests.api.conftest import assert_problem, messages, store_video
from videomoments_dagster.storage import names

ROOT, CHILD = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"


@pytest.fixture
def talk(services: Services) -> str:
    with services.database.session() as session:
        video = store_video(services, session, "talk")
        factories.transcript(session, video)
        root = factories.moment(session, video, identifier=ROOT)
        factories.refined(session, root, identifier=CHILD)
    return "talk"


@pytest.mark.parametrize("moment", [ROOT, CHILD])
def test_one_moment_is_asked_for_with_what_the_video_was_asked_for(
    client: TestClient, services: Services, redis: "Redis", talk: str, moment: str
) -> None:
    with services.database.session() as session:
        row = request_queries.create(
            session,
            request_id="first",
            video_identifier=talk,
            source_url=None,
            pipeline_type="full",
            config={"max_moments": 3, "max_moment_length": 300, "refinement_model": "minimax"},
        )
        request_queries.mark_launched(session, row.request_id, "run")
        request_queries.mark_finished(session, row.request_id)
    body = {"config": {"refinement_model": "qwen3_vl_fp8", "max_moment_length": 600}}
    response = client.post(f"/api/videos/{talk}/moments/{moment}/refine", json=body)
    assert response.status_code == 202, response.text
    assert response.json()["pipeline_type"] == "refinement_only"
    (fields,) = messages(redis)
    message = services.stream.parse(fields)
    wanted = {"max_moments": 3, "refinement_model": "qwen3_vl_fp8", "moment": ROOT}
    assert message.config == wanted  # pyright: ignore[reportAttributeAccessIssue]
    stages = {each["stage"]: each["status"] for each in client.get(response.json()["status_url"]).json()["stages"]}
    assert {stage for stage, status in stages.items() if status == "pending"} == {"MOMENT_REFINEMENT", "SCORING"}
    assert_problem(client.post(f"/api/videos/{talk}/moments/{moment}/refine"), 409, "pipeline_active")


def test_a_key_used_for_one_moment_is_not_good_for_another(client: TestClient, services: Services, talk: str) -> None:
    with services.database.session() as session:
        factories.moment(session, videos.require(session, talk), identifier="dddddddddddddddd")
    headers = {"Idempotency-Key": "once"}
    first = client.post(f"/api/videos/{talk}/moments/{ROOT}/refine", headers=headers)
    again = client.post(f"/api/videos/{talk}/moments/{ROOT}/refine", headers=headers)
    assert first.status_code == again.status_code == 202 and first.json() == again.json()
    other = client.post(f"/api/videos/{talk}/moments/dddddddddddddddd/refine", headers=headers)
    assert_problem(other, 409, "conflict")


def test_a_moment_is_named_for_what_is_done_to_one_alone(client: TestClient, talk: str) -> None:
    for kind in ("full", "moments_only", "transcript_only"):
        body = {"pipeline_type": kind, "config": {"moment": ROOT}}
        assert_problem(client.post(f"/api/pipeline/{talk}/start", json=body), 422, "invalid_config")


def test_another_videos_moment_is_not_found(client: TestClient, services: Services, talk: str) -> None:
    with services.database.session() as session:
        store_video(services, session, "other")
    assert_problem(client.post(f"/api/videos/other/moments/{ROOT}/refine"), 404, "not_found")
    assert_problem(client.post(f"/api/videos/{talk}/moments/cccccccccccccccc/refine"), 404, "not_found")
    assert_problem(client.post(f"/api/videos/nobody/moments/{ROOT}/refine"), 404, "not_found")


def test_the_raw_answers_are_a_redirect_to_gzipped_json(client: TestClient, services: Services, talk: str) -> None:
    path = f"/api/videos/{talk}/answers/moments"
    assert_problem(client.get(path), 404, "not_found")
    services.store.put_bytes(names.answers(talk, "moments"), gzip.compress(b'{"version": 1}'), "application/gzip")
    response = client.get(path)
    assert response.status_code == 302
    kept = client.get(response.headers["location"].removeprefix(services.settings.public_url))
    assert json.loads(gzip.decompress(kept.content)) == {"version": 1}
    assert client.get(f"/api/videos/{talk}/answers/..%2Fmoments").status_code in {404, 422}
    assert_problem(client.get(f"/api/videos/{talk}/answers/clips"), 422, "invalid_input")


def test_deleting_a_video_removes_its_answers(client: TestClient, services: Services, talk: str) -> None:
    services.store.put_bytes(names.answers(talk, "moments"), b"x", "application/gzip")
    assert client.delete(f"/api/videos/{talk}").status_code == 204
    assert services.store.stat(names.answers(talk, "moments")) is None
