"""A video's bytes are fetched once, also when what follows the download fails; and temporary files have their asset."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from tests.defs.pipeline import execute, failure_of, submit
from tests.media.make import Drawing, draw
from tests.ranges import RangedFile, padded
from tests.web import Web, serving
from videomoments_dagster.defs.assets import video as video_module
from videomoments_dagster.defs.maintenance.temp_files import temp_files
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import StorageUnavailable
from videomoments_dagster.media.fetch import fetch
from videomoments_dagster.storage import names
from videomoments_dagster.temp_files import DOWNLOADS, RESUME

VIDEO = [dg.AssetKey("video")]


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster._core.definitions.policy.RetryPolicy.calculate_delay", lambda self, attempt: 0)
    monkeypatch.setattr(video_module, "fetch", partial(fetch, retry_pause_seconds=0.01))


def test_a_fetched_file_waits_for_the_store_and_an_interrupted_one_for_its_server(
    platform: PlatformResource, instance: dg.DagsterInstance, web: Web, tmp_path: Path
) -> None:
    server = RangedFile(padded(draw(tmp_path / "talk.mp4", Drawing(seconds=4)).read_bytes()))
    half, temp = len(server.content) // 2, platform.settings.temp_directory
    request_id = submit(platform, "talk", server.serve(web, "/talk.mp4"))
    server.before_block = lambda sent: server.sent_bytes < half
    result = execute(platform, instance, "talk", request_id=request_id, selection=VIDEO)
    assert failure_of(result)["code"] == "source_incomplete"
    server.before_block = lambda sent: True
    blocked = platform.settings.objects_directory / names.video("talk", "mp4")
    blocked.parent.mkdir(parents=True)
    blocked.mkdir()  # where the object's file belongs
    (blocked / "in the way").touch()
    result = execute(platform, instance, "talk", request_id=request_id, selection=VIDEO)
    assert failure_of(result)["code"] == "storage_error"
    assert [path.parent.parent.name for path in temp.rglob("source")] == ["talk"]
    (blocked / "in the way").unlink()
    blocked.rmdir()
    assert execute(platform, instance, "talk", request_id=request_id, selection=VIDEO).success
    assert server.sent_bytes == len(server.content), "no byte twice"
    assert list(temp.iterdir()) == [], "the object is stored"


def test_the_asset_of_temporary_files_removes_leftovers_and_tells_what_stays(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    for video in ("kept", "leftover"):
        with suppress(StorageUnavailable), platform.temp.resumable(DOWNLOADS, video) as directory:
            (directory / RESUME).write_text("{}")
            raise StorageUnavailable("The store answers 503.")
    (directory / RESUME).rename(directory / "source")
    with platform.temp.directory("audio", "talk"):
        result = dg.materialize([temp_files], resources={"platform": platform}, instance=instance)
    [materialization] = result.asset_materializations_for_node("temp_files")
    seen = {name: value.value for name, value in materialization.metadata.items()}
    assert (seen["removed_files"], seen["removed_bytes"]) == (1, 2)
    assert (seen["directories"], seen["directories_in_use"], seen["files"], seen["size_bytes"]) == (2, 1, 1, 2)
    assert isinstance(seen["free_bytes"], int)
    assert "| audio | 1 | 1 | 0 | 0 |" in str(seen["by_purpose"])
    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.severity) == ("disk_has_room", dg.AssetCheckSeverity.WARN)
