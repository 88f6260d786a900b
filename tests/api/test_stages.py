"""Single stages: doing them again by the contract's own paths, and how far they are."""

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from api.services import Services
from db.queries import requests as request_queries
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem, messages, store_video
from videomoments_dagster.requests.stages import STAGES_OF, PipelineType, Stage

_URL = "https://example.org/talk.mp4"


@pytest.fixture
def talk(services: Services) -> str:
    """Heard and searched, with padding of its own."""
    with services.database.session() as session:
        video = store_video(services, session, "talk", source_url=_URL)
        factories.transcript(session, video)
        factories.moment(session, video)
        request = factories.request(session, "talk", config={"padding_left": 1, "max_moments": 3}, source_url=_URL)
        request_queries.mark_finished(session, request.request_id)
    return "talk"


@pytest.mark.parametrize(
    ("path", "body", "kind", "config"),
    [
        ("process-transcript", None, "transcript_only", {"padding_left": 1, "max_moments": 3}),
        ("process-transcript", {"speech_model": "parakeet"}, "transcript_only", {"speech_model": "parakeet"}),
        ("generate-moments", None, "moments_only", {"padding_left": 1, "max_moments": 3}),
        ("generate-moments", {"max_moments": 8}, "moments_only", {"padding_left": 1, "max_moments": 8}),
        ("extract-clips", None, "clips_only", {"padding_left": 1, "max_moments": 3}),
        ("extract-clips", {"padding_left": 2.5}, "clips_only", {"padding_left": 2.5, "max_moments": 3}),
    ],
)
def test_a_stage_is_done_again_with_what_was_asked_for_before(
    client: TestClient, services: Services, redis: "Redis", talk: str, path: str, body: dict, kind: str, config: dict
) -> None:
    response = client.post(f"/api/videos/{talk}/{path}", json=body)
    assert response.status_code == 202, response.text
    assert response.json()["pipeline_type"] == kind
    [fields] = messages(redis)
    message = services.stream.parse(fields)
    assert config.items() <= message.config.items()  # pyright: ignore[reportAttributeAccessIssue]
    stages = {each["stage"]: each["status"] for each in client.get(response.json()["status_url"]).json()["stages"]}
    assert {stage for stage, status in stages.items() if status == "pending"} == set(STAGES_OF[PipelineType(kind)])
    assert_problem(client.post(f"/api/videos/{talk}/{path}"), 409, "pipeline_active")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/videos/nobody/process-transcript", None, 404, "not_found"),
        ("/api/videos/nobody/generate-moments", None, 404, "not_found"),
        ("/api/videos/nobody/extract-clips", None, 404, "not_found"),
        ("/api/videos/fresh/generate-moments", None, 409, "stage_input_missing"),
        ("/api/videos/fresh/extract-clips", None, 409, "stage_input_missing"),
        ("/api/videos/talk/generate-moments", {"max_moments": 0}, 422, "invalid_input"),
        ("/api/videos/talk/generate-moments", {"min_moments": 9}, 422, "invalid_config"),
        ("/api/videos/talk/extract-clips", {"padding": 1}, 422, "invalid_input"),
        ("/api/generate_moments", {"url": "ftp://example.org/x.mp4"}, 422, "address_refused"),
        ("/api/generate_moments", {}, 422, "invalid_input"),
    ],
)
def test_what_can_not_be_done_again_is_refused(
    client: TestClient, services: Services, redis: "Redis", talk: str, path: str, body: dict, status: int, code: str
) -> None:
    with services.database.session() as session:
        store_video(services, session, "fresh")
    assert_problem(client.post(path, json=body), status, code)
    assert messages(redis) == []


def test_moments_of_a_url_are_found_anew_where_it_was_heard_and_else_from_the_start(
    client: TestClient, redis: "Redis", talk: str
) -> None:
    known = client.post("/api/generate_moments", json={"url": _URL, "config": {"max_moments": 2}})
    assert (known.status_code, known.json()["video_id"], known.json()["pipeline_type"]) == (202, talk, "moments_only")
    new = {"url": "https://example.org/new.mp4"}
    answers = [client.post("/api/generate_moments", json=new, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert (answers[0].json()["video_id"], answers[0].json()["pipeline_type"]) == ("new", "full")
    assert len(messages(redis)) == 2


def test_a_key_that_asked_for_a_new_url_is_answered_the_same_when_the_video_was_heard(
    client: TestClient, services: Services, redis: "Redis"
) -> None:
    ask = {"json": {"url": "https://example.org/new.mp4"}, "headers": {"Idempotency-Key": "k"}}
    first = client.post("/api/generate_moments", **ask).json()
    with services.database.session() as session:
        request_queries.mark_finished(session, first["request_id"])
        video = store_video(services, session, "new", source_url="https://example.org/new.mp4")
        factories.transcript(session, video)
    services.lock.release("new", first["request_id"])
    assert client.post("/api/generate_moments", **ask).json() == first
    assert len(messages(redis)) == 1


def test_a_key_that_asked_for_a_processed_video_without_a_transcript_is_answered_the_same(
    client: TestClient, services: Services, redis: "Redis"
) -> None:
    url = "https://example.org/silent.mp4"
    ask = {"json": {"url": url, "config": {"max_moments": 2}}, "headers": {"Idempotency-Key": "k"}}
    with services.database.session() as session:
        video = store_video(services, session, "silent", source_url=url)
        factories.run(session, video, status="completed")
    first = client.post("/api/generate_moments", **ask)
    assert (first.status_code, first.json()["pipeline_type"]) == (202, "full")
    assert client.post("/api/generate_moments", **ask).json() == first.json()
    with services.database.session() as session:
        factories.transcript(session, session.merge(video))
    assert client.post("/api/generate_moments", **ask).json() == first.json()
    other = client.post("/api/generate_moments", **(ask | {"json": {"url": url}}))
    assert_problem(other, 409, "conflict")
    assert len(messages(redis)) == 1


def test_a_stage_tells_how_far_it_is_and_whether_there_is_a_result(
    client: TestClient, services: Services, talk: str, statements: QueryCounter
) -> None:
    status = services.status
    status.begin(talk, request_id="r", pipeline_type="full", stages=STAGES_OF[PipelineType.FULL], run_id="run")
    status.stage_started(talk, Stage.TRANSCRIPTION)
    status.stage_progress(talk, Stage.TRANSCRIPTION, 0.25)
    with statements() as sent:
        heard = client.get(f"/api/videos/{talk}/transcription-status").json()
    assert len(sent) == 1
    assert (heard["status"], heard["progress"], heard["has_result"]) == ("running", 0.25, True)
    assert (heard["video_id"], heard["request_id"], heard["pipeline_status"]) == (talk, "r", "running")
    error = {"stage": "MOMENT_GENERATION", "code": "x", "message": "No.", "hint": "", "retryable": False}
    status.stage_failed(talk, Stage.MOMENT_GENERATION, error)
    found = client.get(f"/api/videos/{talk}/generation-status").json()
    assert (found["status"], found["error"], found["has_result"]) == ("failed", error, True)
    status.stage_completed(talk, Stage.CLIP_EXTRACTION)
    cut = client.get(f"/api/videos/{talk}/clip-extraction-status").json()
    assert (cut["status"], cut["progress"], cut["has_result"]) == ("running", 0.5, False)
    refined = client.get(f"/api/videos/{talk}/refinement-status").json()
    assert (refined["status"], refined["has_result"]) == ("pending", False)


@pytest.mark.parametrize("stage", ["transcription", "generation", "refinement", "clip-extraction"])
def test_the_stage_of_an_unknown_video_is_not_found(client: TestClient, stage: str) -> None:
    assert_problem(client.get(f"/api/videos/nobody/{stage}-status"), 404, "not_found")
