"""`videomoments sweep` as people and programs meet it: what it prints, and how it exits."""

import json
import sys
from pathlib import Path

import pytest
import redis as redis_client

from tests import factories
from videomoments_dagster.cli import main
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names


def test_a_sweep_tells_what_is_wrong_and_mends_it_when_asked(
    home: Path,
    fresh_database_url: str,
    redis: "redis_client.Redis",
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    get_settings.cache_clear()

    def sweep(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["videomoments", "sweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.run()
            raise SystemExit(0)
        return int(ended.value.code or 0), capsys.readouterr().out

    platform = PlatformResource()
    try:
        name = names.video("talk", "mp4")
        platform.store.put_bytes(name, b"video", "video/mp4")
        with platform.database.session() as session:
            factories.video(session, identifier="talk", cloud_url=platform.store.cloud_url(name))
        redis.set("pipeline:ghost:lock", "a-run-that-is-gone", ex=60)
        code, out = sweep()
        assert code == 1
        assert "videos_without_partitions" in out
        assert "pipeline:ghost:lock" in out, "as it is called, not as a picture"
        assert "2 wrong, 0 fixed" in out
        assert "videomoments sweep --fix" in out
        code, out = sweep("--fix", "--json")
        report = json.loads(out)
        assert (code, report["total"], report["left"]) == (0, 2, 0)
        assert [(each["video"], each["fixed"]) for each in report["findings"]] == [("talk", True), ("ghost", True)]
        code, out = sweep()
        assert (code, "1 videos, 1 files: 0 wrong" in out) == (0, True)
    finally:
        platform.database.dispose()
