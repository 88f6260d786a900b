"""Moments by hand over HTTP: adding, changing and deleting them, alone and while others do the same."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from api.services import Services
from db.queries import moments, thumbnails, videos
from db.queries.moments import NewMoment
from tests import factories
from tests.api.conftest import QueryCounter, assert_problem, messages, store_video
from videomoments_dagster.storage import names

ROOT, CHILD = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
PATH = "/api/videos/talk/moments"


@pytest.fixture
def talk(services: Services) -> str:
    """600 seconds; a model's root moment of 100 to 120 s with a clip, a picture and a refined child."""
    with services.database.session() as session:
        video = store_video(services, session, "talk")
        factories.video(session, identifier="other")
        root = factories.moment(session, video, 100, 120, identifier=ROOT, title="Small steps")
        factories.refined(session, root, identifier=CHILD)
        clip_name, picture_name = names.clip("talk", ROOT), names.clip_thumbnail("talk", ROOT)
        for name in (clip_name, picture_name):
            services.store.put_bytes(name, b"bytes", "video/mp4")
        clip = factories.clip(
            session,
            root,
            cloud_url=services.store.cloud_url(clip_name),
            start_time=95,
            end_time=125,
            padding_left=5.0,
            padding_right=5.0,
        )
        factories.thumbnail(session, clip, cloud_url=services.store.cloud_url(picture_name))
    return "talk"


def new(title: str = "By hand", start_time: Any = 10, end_time: Any = 20.5, **more: Any) -> dict[str, Any]:
    return {"title": title, "start_time": start_time, "end_time": end_time, **more}


def test_a_moment_is_made_by_hand_once(client: TestClient, talk: str, statements: QueryCounter) -> None:
    with statements() as sent:
        made = client.post(PATH, json=new("  By hand ", 10.0004, 20.5))
    assert made.status_code == 201, made.text
    assert len(sent) <= 6
    moment = made.json()
    assert (moment["title"], moment["start_time"], moment["end_time"]) == ("By hand", 10, 20.5)
    assert (moment["model_name"], moment["clip_url"], moment["is_refined"], moment["score"]) == (
        None,
        None,
        False,
        None,
    )
    assert made.headers["location"] == f"{PATH}/{moment['id']}"
    assert client.get(made.headers["location"]).json() == moment
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda title: client.post(PATH, json=new(title)), ["By hand", "At once"] * 2))
    assert sorted(each.status_code for each in answers) == [200, 200, 200, 201]
    assert len({each.json()["id"] for each in answers}) == 2
    again = answers[0]
    assert (again.status_code, again.json()) == (200, moment)
    assert again.headers["location"] == made.headers["location"]
    assert client.post(PATH, json=new("Another title")).status_code == 201
    assert [each["title"] for each in client.get(PATH).json()][:3] == ["By hand", "At once", "Another title"]


def test_a_moment_that_can_not_be_is_refused(client: TestClient, talk: str) -> None:
    spans = [(20, 20), (20, 10), (-1, 5), (590, 600.01), (1, 1.0004)]
    bodies = [new(start_time=start, end_time=end) for start, end in spans]
    bodies += [new(start_time=bad) for bad in ["10", True, None, 10**400, [1]]]
    bodies += [new(title=bad) for bad in ["", "  ", "x" * 501, "a\0b", "a\nb", "a\u2028b", None, 7]]
    for body in (*bodies, new(score=3), {"title": "No times"}):
        assert_problem(client.post(PATH, json=body), 422, "invalid_input")
    assert client.post(PATH, json=new("x" * 500, 590, 600)).status_code == 201


def test_what_json_can_not_really_say_is_refused(client: TestClient, talk: str) -> None:
    headers = {"content-type": "application/json"}
    for raw in ('"start_time": NaN', '"end_time": Infinity', '"end_time": 1e999', '"title": "\\ud800"'):
        body = '{"title": "x", "start_time": 1, "end_time": 2, ' + raw + "}"
        assert_problem(client.post(PATH, content=body, headers=headers), 422, "invalid_input")
        patched = client.patch(f"{PATH}/{ROOT}", content="{" + raw + "}", headers=headers)
        assert_problem(patched, 422, "invalid_input")


def test_a_change_is_shown_and_survives_what_models_do(
    client: TestClient, services: Services, talk: str, statements: QueryCounter
) -> None:
    hand = client.post(PATH, json=new()).json()["id"]
    with statements() as sent:
        changed = client.patch(f"{PATH}/{ROOT}", json={"title": "Steps"})
    assert changed.status_code == 200, changed.text
    assert len(sent) <= 6
    assert changed.json()["title"] == "Steps"
    assert changed.json()["start_time"] == 100
    assert changed.json()["updated_at"] > changed.json()["created_at"]
    assert client.patch(f"{PATH}/{CHILD}", json={"end_time": 118}).json()["end_time"] == 118
    with services.database.session() as session:
        video = videos.require(session, talk)
        found = [NewMoment("c" * 16, 300, 310, "New"), NewMoment(ROOT, 101, 119, "Theirs")]
        moments.replace_generated(session, video.id, found, generation_model="m", generation_config_id=None)
        moments.replace_refined(session, video.id, [])
    kept = {each["id"]: each["title"] for each in client.get(PATH).json()}
    assert kept == {hand: "By hand", ROOT: "Steps", CHILD: "Small steps", "c" * 16: "New"}


def test_a_change_that_can_not_be_is_refused(client: TestClient, talk: str) -> None:
    before = client.get(f"{PATH}/{ROOT}").json()
    times = [{"start_time": None}, {"end_time": 90}, {"start_time": 130}, {"end_time": 601}]
    for body in ({}, {"title": None}, *times, {"x": 1}):
        assert_problem(client.patch(f"{PATH}/{ROOT}", json=body), 422, "invalid_input")
    assert client.get(f"{PATH}/{ROOT}").json() == before


def test_nothing_is_changed_by_who_read_an_older_version(client: TestClient, talk: str) -> None:
    path = f"{PATH}/{ROOT}"
    first = client.get(path).headers["etag"]
    second = client.patch(path, json={"title": "One"}, headers={"If-Match": first}).headers["etag"]
    stale = {"If-Match": first}
    assert_problem(client.patch(path, json={"title": "Two"}, headers=stale), 412, "precondition_failed")
    assert_problem(client.delete(path, headers=stale), 412, "precondition_failed")
    assert_problem(
        client.patch(path, json={"title": "Two"}, headers={"If-Match": "garbage"}), 412, "precondition_failed"
    )
    assert client.get(path).json()["title"] == "One"
    assert client.get(path).headers["etag"].startswith(second.split(".")[0])
    assert client.get(path, headers={"If-None-Match": client.get(path).headers["etag"]}).status_code == 304
    for good in ("{}", '"other", {}', "*"):
        answered = client.patch(path, json={"title": "Three"}, headers={"If-Match": good.format(second)})
        assert answered.status_code == 200, good
        second = answered.headers["etag"]
    assert client.delete(path, headers={"If-Match": second}).status_code == 204


def test_of_changes_of_one_version_exactly_one_wins(client: TestClient, talk: str) -> None:
    path = f"{PATH}/{ROOT}"
    tag = {"If-Match": client.get(path).headers["etag"]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: client.patch(path, json={"title": f"{n}"}, headers=tag), range(8)))
    (winner,) = [each.json()["title"] for each in answers if each.status_code == 200]
    assert {each.status_code for each in answers} == {200, 412}
    assert client.get(path).json()["title"] == winner


def test_a_clip_that_shows_other_times_is_not_given(client: TestClient, talk: str) -> None:
    assert client.patch(f"{PATH}/{ROOT}", json={"title": "Same times", "end_time": 124}).json()["clip_url"]
    assert client.get(f"/api/clips/{ROOT}/stream").status_code == 302
    moved = client.patch(f"{PATH}/{ROOT}", json={"start_time": 200, "end_time": 220}).json()
    assert (moved["clip_url"], moved["thumbnail_url"]) == (None, None)
    (clip,) = client.get("/api/videos/talk/clips").json()
    assert (clip["url"], clip["thumbnail_url"], clip["start_time"]) == (None, None, 95)
    for what in ("url", "stream", "thumbnail"):
        assert "extract-clips" in assert_problem(client.get(f"/api/clips/{ROOT}/{what}"), 409, "clip_outdated")["hint"]
    assert [each["id"] for each in client.get(PATH).json()] == [ROOT], "the refinement of the old times is gone"


def test_one_clip_is_cut_alone(client: TestClient, services: Services, redis: "Redis", talk: str) -> None:
    answer = client.post(f"{PATH}/{CHILD}/clip")
    assert answer.status_code == 202, answer.text
    assert answer.json()["pipeline_type"] == "clips_only"
    (fields,) = messages(redis)
    message = services.stream.parse(fields)
    assert message.config == {"moment": ROOT}  # pyright: ignore[reportAttributeAccessIssue]
    assert_problem(client.post(f"{PATH}/{ROOT}/clip"), 409, "pipeline_active")


def test_a_deleted_moment_leaves_nothing(
    client: TestClient, services: Services, talk: str, statements: QueryCounter
) -> None:
    assert client.patch(f"{PATH}/{CHILD}", json={"title": "Mine"}).status_code == 200
    with statements() as sent:
        assert client.delete(f"{PATH}/{ROOT}").status_code == 204
    assert len(sent) <= 8
    assert client.get(PATH).json() == []
    assert not any(services.store.stat(name) for name in (names.clip(talk, ROOT), names.clip_thumbnail(talk, ROOT)))
    with services.database.session() as session:
        assert thumbnails.of_video(session, videos.require(session, talk).id) == []
    assert_problem(client.delete(f"{PATH}/{ROOT}"), 404, "not_found")


def test_a_deleted_refinement_leaves_its_parent_and_the_clip(client: TestClient, services: Services, talk: str) -> None:
    assert client.delete(f"{PATH}/{CHILD}").status_code == 204
    (left,) = client.get(PATH).json()
    assert left["id"] == ROOT and left["clip_url"]
    assert services.store.stat(names.clip(talk, ROOT))


def test_an_object_that_can_not_be_deleted_does_not_keep_the_moment(
    client: TestClient, services: Services, talk: str
) -> None:
    with services.database.session() as session:
        root = factories.moment(session, videos.require(session, talk), identifier="d" * 16)
        factories.clip(session, root, cloud_url="gs://elsewhere/clips/talk/x.mp4")
    assert client.delete(f"{PATH}/{'d' * 16}").status_code == 204


def test_another_videos_moment_is_not_found(client: TestClient, talk: str) -> None:
    for path in (f"/api/videos/other/moments/{ROOT}", f"{PATH}/{'c' * 16}", f"/api/videos/nobody/moments/{ROOT}"):
        assert_problem(client.get(path), 404, "not_found")
        assert_problem(client.patch(path, json={"title": "x"}), 404, "not_found")
        assert_problem(client.delete(path), 404, "not_found")
        assert_problem(client.post(f"{path}/clip"), 404, "not_found")
    assert client.get(f"{PATH}/{ROOT}").json()["title"] == "Small steps"
