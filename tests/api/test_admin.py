"""The temp folder of the API's host: measured, and cleaned up of what nobody works with."""

from contextlib import suppress

from fastapi.testclient import TestClient

from tests.api.conftest import assert_problem
from videomoments_dagster.errors import StorageUnavailable
from videomoments_dagster.settings import Settings
from videomoments_dagster.temp_files import DOWNLOADS, RESUME, TempFiles


def test_temporary_files_are_measured_and_those_nobody_needs_removed(client: TestClient, settings: Settings) -> None:
    temp = TempFiles.of(settings)
    with suppress(StorageUnavailable), temp.resumable(DOWNLOADS, "talk") as kept:
        (kept / RESUME).write_text("{}")
        raise StorageUnavailable("The store answers 503.")
    with temp.directory("audio", "talk") as used:
        (used / "audio.wav").write_bytes(b"sound")
        body = client.get("/api/admin/temp-stats").json()
        assert [each["purpose"] for each in body["purposes"]] == ["audio", "downloads"]
        total = body["total"]
        assert (total["directories"], total["in_use"], total["files"], total["size_bytes"]) == (2, 1, 2, 7)
        assert 0 < body["free_bytes"] <= body["disk_bytes"]
        assert body["kept_at_most_bytes"] == settings.temp_bytes
        assert client.post("/api/admin/cleanup-temp").json() == {"directories": 0, "files": 0, "size_bytes": 0}
        (kept / RESUME).unlink()
        (kept / "source").write_bytes(b"four")
        assert client.post("/api/admin/cleanup-temp").json() == {"directories": 1, "files": 1, "size_bytes": 4}
        assert (used / "audio.wav").exists()
    assert client.get("/api/admin/temp-stats").json()["purposes"] == []
    assert_problem(client.get("/api/admin/temp-stats?purpose=audio"), 422, "invalid_input")
