"""A disk that is full for real (a small tmpfs that only the test sees), at each stage that writes files: the failure
has its name, nothing is half there, and the same run goes on when there is space again."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from db.queries import clips as clip_queries
from db.queries import thumbnails as thumbnail_queries
from db.queries import videos as video_queries
from faults.disk import fill, mount_small_disk, own_mounts
from tests import factories
from tests.defs.pipeline import execute, failure_of, submit
from tests.hosts.cluster import until
from tests.media.make import Drawing, draw
from tests.ranges import RangedFile, padded
from tests.web import serving
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.storage import names

_DISK_BYTES = 8_000_000


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster._core.definitions.policy.RetryPolicy.calculate_delay", lambda self, attempt: 0)


@pytest.fixture
def on_small_disk(platform: PlatformResource) -> Callable[[Callable[[], None]], None]:
    """Runs a function whose data directory is on a disk of 8 MB. In a thread, with which the disk ends."""

    def run(body: Callable[[], None]) -> None:
        failures: list[BaseException] = []

        def inside() -> None:
            try:
                own_mounts()
                mount_small_disk(platform.settings.home, _DISK_BYTES)
                body()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failures and isinstance(failures[0], PermissionError):
            pytest.skip("only root mounts a small disk: test_as_a_user.py runs this in a user namespace, where it may")
        if failures:
            raise failures[0]

    return run


class Story:
    """One video, stage by stage."""

    def __init__(self, platform: PlatformResource, instance: dg.DagsterInstance, url: str) -> None:
        self._platform, self._instance = platform, instance
        self._request_id = submit(platform, "talk", url)

    def run(self, asset: str) -> dg.ExecuteInProcessResult:
        selection = [dg.AssetKey(asset)]
        return execute(self._platform, self._instance, "talk", request_id=self._request_id, selection=selection)

    def fails(self, asset: str, stage: str, *, free_bytes: int) -> None:
        """The asset with so much space left, and with enough again; its `stage` is the one that notices."""
        before, filler = self.rows_and_objects(), fill(self._platform.settings.home)
        os.truncate(filler, filler.stat().st_size - free_bytes)
        self.failed(self.run(asset), stage)
        filler.unlink()
        assert self.rows_and_objects() == before

    def failed(self, result: dg.ExecuteInProcessResult, stage: str) -> None:
        error = failure_of(result)
        assert (error["stage"], error["code"], error["retryable"]) == (stage, "disk_full", True)

    def rows_and_objects(self) -> list[str]:
        """What the rows promise, which is what there is."""
        store = self._platform.store
        with self._platform.database.read() as session:
            video = video_queries.get(session, "talk")
            clips = clip_queries.of_video(session, video.id) if video else []
            pictures = thumbnail_queries.of_video(session, video.id) if video else []
            rows = [row.cloud_url for row in (*([video] if video else []), *clips, *pictures)]
        without_row = {names.audio("talk"), names.keyframes("talk")}
        objects = {stored.name for prefix in names.prefixes("talk") for stored in store.list(prefix)} - without_row
        assert {store.name_of(url) for url in rows} == objects
        return sorted(rows)

    def temporary(self) -> list[str]:
        """Purposes of what is left, and what the store left half written."""
        temp, objects = self._platform.settings.temp_directory, self._platform.settings.objects_directory
        return [path.name for path in temp.iterdir()] + [path.name for path in (objects / ".store/temp").glob("*")]


def test_a_full_disk_fails_each_stage_by_name_and_the_same_run_goes_on(
    on_small_disk: Callable[[Callable[[], None]], None],
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    tmp_path: Path,
) -> None:
    home = platform.settings.home
    drawn = draw(tmp_path / "talk.mp4", Drawing(seconds=6, width=640, height=360))
    server = RangedFile(padded(drawn.read_bytes()))
    whole_bytes = len(server.content)

    def take_all_at_half(sent: int) -> bool:
        if sent >= whole_bytes // 2 and not (home / "filler").exists():
            # what was sent may not have been read: without a byte on disk there is nothing to go on with
            until(lambda: any(part.stat().st_size for part in home.rglob("source")), "some of it is on disk")
            fill(home)
        return True

    def body() -> None:
        with serving() as web:
            story = Story(platform, instance, server.serve(web, "/talk.mp4"))
            server.before_block = take_all_at_half
            story.failed(story.run("video"), "VIDEO_DOWNLOAD")
            (home / "filler").unlink()
            assert (story.rows_and_objects(), story.temporary()) == ([], ["downloads"])
            server.before_block, server.sent_bytes = (lambda sent: True), 0

            [part] = platform.settings.temp_directory.rglob("source")
            missing_bytes = whole_bytes - part.stat().st_size
            assert 0 < missing_bytes < whole_bytes
            story.fails("video", "VIDEO_DOWNLOAD", free_bytes=missing_bytes + whole_bytes // 2)  # not for the object
            assert story.temporary() == ["downloads"]
            assert story.run("video").success
            assert server.sent_bytes == missing_bytes
        assert story.temporary() == []
        story.fails("audio", "AUDIO_EXTRACTION", free_bytes=16_000)
        assert story.run("audio").success
        with platform.database.session() as session:
            factories.moment(session, video_queries.require(session, "talk"), 1, 4)
        story.fails("clips", "CLIP_EXTRACTION", free_bytes=16_000)  # enough for the index of keyframes
        assert story.run("clips").success
        story.fails("thumbnails", "THUMBNAILS", free_bytes=0)
        assert story.temporary() == []
        assert story.run("thumbnails").success
        assert len(story.rows_and_objects()) == 4
        assert story.temporary() == []

    on_small_disk(body)
