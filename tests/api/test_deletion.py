"""Deleting a video: all of it and nothing else, again after a death at any step, and never under a run that lives."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import text

from api import deletion
from api.services import Services
from db.queries import deletion as deletion_queries
from db.queries import locks
from db.queries import requests as request_queries
from db.queries import videos as video_queries
from tests import factories
from tests.api.conftest import assert_problem, messages, store_video
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.cancel import CancelFlag
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names
from videomoments_dagster.temp_files import TempFiles

END_LOCK_HOLDERS = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
RECEIPT = {"Prefer": "return=representation"}


@pytest.fixture
def talk(services: Services) -> str:
    """A video with a row in every table, an object under every prefix, temporary files, and keys."""
    with services.database.session() as session:
        video = store_video(services, session, "talk")
        factories.transcript(session, video)
        root = factories.moment(session, video)
        factories.refined(session, root)
        factories.thumbnail(session, factories.clip(session, root))
        factories.thumbnail(session, video)
        factories.run(session, video)
        factories.request(session, "talk", state="finished")
    for prefix in names.prefixes("talk"):
        services.store.put_bytes(f"{prefix}extra", b"123", "text/plain")
    services.status.begin("talk", request_id=None, pipeline_type="full", stages=Stage)
    services.status.keep_run("talk", factories.minutes_later(0), "run", "completed")
    left = services.settings.temp_directory / "video" / "talk" / "left"
    left.mkdir(parents=True)
    (left / "source").write_bytes(b"12345")
    return "talk"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience with what does not end."""
    monkeypatch.setattr(deletion, "CANCEL_SECONDS", 0.2)
    monkeypatch.setattr(deletion, "CONFIRM_SECONDS", 0.05)
    monkeypatch.setattr(deletion, "_LOOK_SECONDS", 0.02)


def assert_nothing_is_left(services: Services, redis: "Redis", client: TestClient, video: str = "talk") -> None:
    assert list(services.store.list("")) == []
    assert redis.keys(f"pipeline:{video}:*") == []
    assert list(services.settings.temp_directory.glob(f"*/{video}/*")) == []
    assert {fields["video_id"] for fields in messages(redis) if fields["kind"] == "delete"} == {video}
    assert_problem(client.delete(f"/api/videos/{video}"), 404, "not_found")


def test_everything_of_a_video_goes_and_nothing_of_another_and_the_receipt_says_what(
    client: TestClient, services: Services, redis: "Redis", talk: str
) -> None:
    with services.database.session() as session:
        other = store_video(services, session, "talk2")
        factories.run(session, other)
        factories.request(session, "talk2", state="finished")
    services.status.keep_run("talk2", factories.minutes_later(0), "run", "completed")
    redis.set("pipeline:talk:note", "not ours")
    response = client.delete(f"/api/videos/{talk}", headers=RECEIPT)
    assert (response.status_code, response.headers["preference-applied"]) == (200, "return=representation")
    objects = {prefix: {"objects": 1, "bytes": 3} for prefix in names.prefixes(talk)}
    assert response.json() == {
        "video_id": talk,
        "rows": {"thumbnails": 2, "clips": 1, "moments": 2, "transcripts": 1, "pipeline_history": 1, "videos": 1},
        "objects": 8,
        "bytes": 7 * 3 + len(b"video"),
        "by_prefix": {**objects, "videos/talk/": {"objects": 2, "bytes": 3 + len(b"video")}},
        "temp_bytes": 5,
        "redis_keys": 3,
        "requests": 1,
        "partition": "requested",
    }
    assert [each.name for each in services.store.list("")] == ["videos/talk2/talk2.mp4"]
    assert [each["id"] for each in client.get("/api/videos").json()["items"]] == ["talk2"]
    assert len(client.get("/api/pipeline/talk2/history").json()["items"]) == 1
    kept = set(redis.keys("pipeline:*"))  # pyright: ignore[reportArgumentType]
    assert {"pipeline:talk:note", "pipeline:requests"} < kept and len(kept) == 3
    assert messages(redis) == [{"kind": "delete", "video_id": talk}]
    assert_problem(client.delete(f"/api/videos/{talk}"), 404, "not_found")


DEATHS: dict[str, Callable[[Services], tuple[Any, str]]] = {
    "rows": lambda services: (deletion_queries, "delete_rows"),
    "objects": lambda services: (type(services.store), "delete"),
    "temporary files": lambda services: (TempFiles, "remove_video"),
    "keys": lambda services: (type(services.status), "forget"),
    "requests": lambda services: (deletion_queries, "delete_requests"),
    "message": lambda services: (type(services.stream), "publish"),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", DEATHS)
def test_a_deletion_that_dies_at_any_step_is_finished_by_the_next(
    client: TestClient,
    services: Services,
    redis: "Redis",
    monkeypatch: pytest.MonkeyPatch,
    talk: str,
    at: str,
    when: str,
) -> None:
    owner, name = DEATHS[at](services)
    step = getattr(owner, name)

    def die(*args: Any, **more: Any) -> None:
        if when == "after":
            step(*args, **more)
        raise ServiceUnavailable("It broke.")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die)
        assert_problem(client.delete(f"/api/videos/{talk}"), 503, "service_unavailable")
    whole = client.get(f"/api/videos/{talk}").status_code == 200
    assert whole == (at == "rows")
    if at in {"requests", "message"}:
        assert client.get(f"/api/pipeline/{talk}/status").json()["error"]["code"] == "being_deleted"
    assert client.delete(f"/api/videos/{talk}").status_code == 204
    assert_nothing_is_left(services, redis, client)


def test_a_deletion_that_is_killed_is_finished_by_the_next(
    client: TestClient, services: Services, redis: "Redis", talk: str
) -> None:
    """kill -9 between two objects; the dead process's lock is gone with its connection."""
    program = """
import asyncio, os, signal
from api import deletion
from api.services import Services
from videomoments_dagster.settings import get_settings
services = Services.open(get_settings())
remove, removed = type(services.store).delete, []
def one_and_die(store, name):
    if removed:
        os.kill(os.getpid(), signal.SIGKILL)
    removed.append(name)
    return remove(store, name)
type(services.store).delete = one_and_die
asyncio.run(deletion.delete_video(services, "talk", force=False))
"""
    settings = services.settings
    environment = {
        "VIDEOMOMENTS_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "VIDEOMOMENTS_PUBLIC_URL": "http://testserver",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert_problem(client.get(f"/api/videos/{talk}"), 404, "not_found")
    assert len(list(services.store.list(""))) == 7
    assert client.delete(f"/api/videos/{talk}").status_code == 204
    assert_nothing_is_left(services, redis, client)


def test_a_half_deleted_video_can_be_submitted_anew(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, talk: str
) -> None:
    with services.database.session() as session:
        url = video_queries.require(session, talk).source_url
        factories.request(session, talk, state="finished", source_url=url)
    with monkeypatch.context() as patch:
        patch.setattr(type(services.store), "delete", _away)
        client.delete(f"/api/videos/{talk}")
    services.status.forget(talk)
    again = client.post("/api/videos", json={"url": url})
    assert (again.status_code, again.json()["video_id"], again.json()["already_processed"]) == (202, talk, False)
    assert client.get(f"/api/pipeline/{talk}/status").json()["status"] == "queued"


def test_leftovers_without_rows_are_removed_too(client: TestClient, services: Services) -> None:
    services.store.put_bytes(names.audio("ghost"), b"x", "audio/wav")
    assert client.delete("/api/videos/ghost").status_code == 204
    assert_problem(client.delete("/api/videos/ghost"), 404, "not_found")


def test_an_identifier_that_could_leave_the_temp_folder_is_refused(client: TestClient) -> None:
    assert_problem(client.delete("/api/videos/.."), 404, "not_found")  # the path is "/api/" then
    assert_problem(client.delete("/api/videos/%2e%2e%2fx"), 404, "not_found")
    assert_problem(client.delete("/api/videos/*"), 422, "invalid_identifier")


class TestWhileItIsProcessed:
    def test_it_is_refused_and_says_what_to_do(self, client: TestClient, services: Services, talk: str) -> None:
        request = client.post(f"/api/pipeline/{talk}/start").json()
        problem = assert_problem(client.delete(f"/api/videos/{talk}"), 409, "pipeline_active")
        assert problem["request_id"] == request["request_id"]
        assert "force" in problem["hint"]
        assert client.get(f"/api/videos/{talk}").status_code == 200

    @pytest.mark.parametrize("by", ["request", "run of the UI"])
    def test_force_cancels_it_waits_for_its_end_and_deletes(
        self, client: TestClient, services: Services, redis: "Redis", talk: str, by: str
    ) -> None:
        if by == "request":
            owner = client.post(f"/api/pipeline/{talk}/start").json()["request_id"]
        else:
            services.lock.acquire(talk, owner := "run-of-the-ui")
        ended = threading.Event()

        def end() -> None:
            """The part of the run and its sensor."""
            assert CancelFlag(services.redis).wait(5) == [talk]
            assert CancelFlag(services.redis).ordered(talk) == owner
            ended.wait(0.3)
            assert client.get(f"/api/videos/{talk}").status_code == 200, "not before its end"
            with services.database.session() as session:
                request_queries.mark_finished(session, owner)
            services.lock.release(talk, owner)

        with ThreadPoolExecutor(1) as pool:
            pipeline = pool.submit(end)
            assert client.delete(f"/api/videos/{talk}?force=true").status_code == 204
            pipeline.result()
        assert_nothing_is_left(services, redis, client)

    @pytest.mark.usefixtures("quick")
    def test_a_run_that_does_not_end_is_not_overruled(
        self, client: TestClient, services: Services, redis: "Redis", talk: str
    ) -> None:
        with services.database.session() as session:
            request = factories.request(session, talk, state="launched", run_id="run-1")
        lease = RunLease(redis, "run-1")
        lease.claim("a-worker")
        problem = assert_problem(client.delete(f"/api/videos/{talk}?force=true"), 409, "pipeline_active")
        assert problem["request_id"] == request.request_id
        assert "again" in problem["hint"]
        with services.database.session() as session:
            assert request_queries.to_cancel(session, 5) != [], "it was cancelled all the same"
            request_queries.mark_finished(session, request.request_id)
        assert_problem(client.delete(f"/api/videos/{talk}?force=true"), 409, "pipeline_active")
        lease.release("a-worker")
        assert client.delete(f"/api/videos/{talk}?force=true").status_code == 204
        assert_nothing_is_left(services, redis, client)

    @pytest.mark.usefixtures("quick")
    @pytest.mark.parametrize("run_id", [None, "run-1"])
    def test_force_takes_over_what_nobody_will_end(
        self, client: TestClient, services: Services, redis: "Redis", talk: str, run_id: str | None
    ) -> None:
        """The daemon and the worker are gone. A process that was only cut off can't come back to the run."""
        with services.database.session() as session:
            state = "launched" if run_id else "queued"
            factories.request(session, talk, state=state, run_id=run_id)
            factories.run(session, video_queries.require(session, talk), status="running")
        assert_problem(client.delete(f"/api/videos/{talk}"), 409, "pipeline_active")
        assert client.delete(f"/api/videos/{talk}?force=true").status_code == 204
        if run_id:
            assert not RunLease(redis, run_id).claim("a-worker")
        assert_nothing_is_left(services, redis, client)

    @pytest.mark.usefixtures("quick")
    def test_a_run_nobody_can_speak_for_is_not_overruled(
        self, client: TestClient, services: Services, talk: str
    ) -> None:
        """Started in the UI, and Redis lost its lock: only its history row says that it runs."""
        with services.database.session() as session:
            run = factories.run(session, video_queries.require(session, talk), status="running")
        for query in ("", "?force=true"):
            problem = assert_problem(client.delete(f"/api/videos/{talk}{query}"), 409, "pipeline_active")
            assert problem["request_id"] == run.identifier
            assert "sweep" in problem["hint"]


class TestWithOthers:
    def test_a_submission_of_the_same_video_waits_for_the_end_of_its_deletion(
        self, client: TestClient, services: Services, redis: "Redis", monkeypatch: pytest.MonkeyPatch, talk: str
    ) -> None:
        with services.database.session() as session:
            url = video_queries.require(session, talk).source_url
        with deleting(client, services, monkeypatch, talk) as let_go, ThreadPoolExecutor(1) as pool:
            submission = pool.submit(lambda: client.post("/api/videos", json={"url": url}))
            time.sleep(0.2)
            assert not submission.done()
            let_go.set()
            assert submission.result().status_code == 202
        kinds = [fields["kind"] for fields in messages(redis)]
        assert kinds == ["delete", "start"]
        with services.database.read() as session:
            assert request_queries.active(session, submission.result().json()["video_id"])

    def test_who_waits_too_long_is_told_to_come_again(
        self, client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, talk: str
    ) -> None:
        monkeypatch.setattr(locks, "WAIT_SECONDS", 0.1)
        with deleting(client, services, monkeypatch, talk) as let_go:
            for ask in (
                lambda: client.delete(f"/api/videos/{talk}"),
                lambda: client.post(f"/api/pipeline/{talk}/start"),
            ):
                problem = assert_problem(ask(), 409, "video_busy")
                assert problem["retryable"]
            let_go.set()

    def test_a_request_accepted_after_the_lock_was_lost_is_kept(
        self, client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, talk: str
    ) -> None:
        """PostgreSQL ended the connection that holds the lock, in the middle of the objects."""
        with services.database.session() as session:
            url = video_queries.require(session, talk).source_url
            factories.request(session, talk, state="finished", source_url=url)
        with deleting(client, services, monkeypatch, talk, status=503) as let_go:
            with services.database.session() as session:
                session.execute(text(END_LOCK_HOLDERS))
            accepted = client.post("/api/videos", json={"url": url})
            assert (accepted.status_code, accepted.json()["video_id"]) == (202, talk)
            objects = len(list(services.store.list("")))
            let_go.set()
        assert len(list(services.store.list(""))) == objects - 1, "the one that was under way"
        with services.database.read() as session:
            active = request_queries.active(session, talk)
        assert active and active.request_id == accepted.json()["request_id"]
        assert services.lock.owner(talk) == active.request_id
        assert client.get(f"/api/pipeline/{talk}/status").json()["status"] == "queued"

    @pytest.mark.parametrize("at", ["rows", "requests"])
    def test_no_request_is_touched_when_the_lock_is_lost_before(
        self, client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, talk: str, at: str
    ) -> None:
        owner, name = DEATHS[at](services)
        step = getattr(owner, name)
        accepted: list[str] = []

        def lose_the_lock(*args: Any) -> Any:
            with services.database.session() as session:
                session.execute(text(END_LOCK_HOLDERS))
            with services.database.session() as session:
                accepted.append(factories.request(session, talk, state="queued").request_id)
            return step(*args)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lose_the_lock)
            problem = assert_problem(client.delete(f"/api/videos/{talk}"), 503, "service_unavailable")
        assert problem["retryable"]
        with services.database.read() as session:
            active = request_queries.active(session, talk)
        assert active and [active.request_id] == accepted

    def test_deletions_that_wait_for_locks_leave_the_rest_of_the_api_alone(
        self, client: TestClient, services: Services
    ) -> None:
        """50 at once; whoever has the videos' locks lets go when the others have been asked."""
        with services.database.session() as session:
            for number in range(5):
                factories.request(session, f"many-{number}", state="finished")
        with ThreadPoolExecutor(50) as pool:
            with services.database.session() as held:
                for number in range(5):
                    request_queries.lock_video(held, f"many-{number}")
                deletions = [pool.submit(client.delete, f"/api/videos/many-{n % 5}") for n in range(50)]
                refused = next(as_completed(deletions, timeout=5)).result()
                assert assert_problem(refused, 503, "service_unavailable")["retryable"]
                begin = time.monotonic()
                assert client.get("/health").status_code == 200
                assert client.get("/api/videos").status_code == 200
                assert time.monotonic() - begin < 1
            codes = [each.result().status_code for each in deletions]
        assert sorted(set(codes)) == [204, 404, 503]
        assert (codes.count(204), codes.count(503)) == (5, 5)

    def test_many_deletions_at_once_leave_connections_for_others(self, client: TestClient, services: Services) -> None:
        with services.database.session() as session:
            for number in range(30):
                factories.request(session, f"many-{number}", state="finished")
        with ThreadPoolExecutor(30) as pool:
            codes = list(pool.map(lambda n: client.delete(f"/api/videos/many-{n}").status_code, range(30)))
        assert codes == [204] * 30


@contextmanager
def deleting(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, video: str, status: int = 204
) -> Iterator[threading.Event]:
    """While a deletion is in the middle of its objects; it goes on when the event is set."""
    remove, begun, let_go = type(services.store).delete, threading.Event(), threading.Event()

    def slowly(store: Any, name: str) -> bool:
        begun.set()
        let_go.wait(10)
        return remove(store, name)

    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(type(services.store), "delete", slowly)
        deletion = pool.submit(lambda: client.delete(f"/api/videos/{video}").status_code)
        assert begun.wait(5)
        yield let_go
        assert deletion.result() == status


def _away(*_args: object, **_more: object) -> None:
    raise ServiceUnavailable("It broke.")
