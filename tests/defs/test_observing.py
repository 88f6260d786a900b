"""A run seen from outside: the lines of its stages, its numbers for every host, and no secret in what Dagster keeps."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import redis as redis_client

from tests.defs.pipeline import execute, submit
from tests.media.make import Drawing, draw
from tests.web import serving
from videomoments_dagster.defs.observing import counting
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.logs import JsonLines
from videomoments_dagster.models.calls import ModelCall
from videomoments_dagster.requests.metrics import MODEL_SECONDS, MODEL_TOKENS, STAGE_SECONDS, Metrics


class _Kept(logging.Handler):
    """Formats as it is logged: the context is of then."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self._formatter = JsonLines("tested")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self._formatter.fields(record))


@pytest.fixture
def kept() -> Iterator[_Kept]:
    handler, logger = _Kept(), logging.getLogger("videomoments")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_stages_are_lines_with_all_ids_and_counted_and_the_urls_query_is_nowhere(
    platform: PlatformResource, instance: dg.DagsterInstance, kept: _Kept, tmp_path: Path
) -> None:
    with serving() as web:
        good = web.serve_file("/good.mp4", draw(tmp_path / "good.mp4", Drawing(seconds=1))) + "?token=canary"
        bad = web.url + "/nowhere.mp4?X-Amz-Signature=canary"
        requests = {"good": submit(platform, "good", good), "bad": submit(platform, "bad", bad)}
        assets = [dg.AssetKey("video")]
        done = execute(platform, instance, "good", request_id=requests["good"], selection=assets)
        failed = execute(platform, instance, "bad", request_id=requests["bad"], selection=assets)
    assert (done.success, failed.success) == (True, False)

    stages = [line for line in kept.lines if line["logger"] == "videomoments.stages"]
    assert [(line["video"], line["message"].split(".")[0].split(":")[0], line.get("outcome")) for line in stages] == [
        ("good", "VIDEO_DOWNLOAD begins", None),
        ("good", "VIDEO_DOWNLOAD completed", "completed"),
        ("bad", "VIDEO_DOWNLOAD begins", None),
        ("bad", "VIDEO_DOWNLOAD", None),
        ("bad", "VIDEO_DOWNLOAD failed", "failed"),
    ]
    runs = {"good": done.run_id, "bad": failed.run_id}
    assert all(line["request_id"] == requests[line["video"]] for line in stages)
    assert all((line["run_id"], line["stage"]) == (runs[line["video"]], "VIDEO_DOWNLOAD") for line in stages)
    assert stages[3]["code"] == "source_not_found"
    [child] = [line for line in kept.lines if line.get("operation") == "probe" and "stage" in line]
    assert (child["request_id"], child["outcome"]) == (requests["good"], "done")

    counted = Metrics(platform.redis).histogram(STAGE_SECONDS)
    assert {labels: value.cumulative[-1] for labels, value in counted.items()} == {
        ("VIDEO_DOWNLOAD", "completed"): 1,
        ("VIDEO_DOWNLOAD", "failed"): 1,
    }
    events = [dg.serialize_value(entry) for run_id in runs.values() for entry in instance.all_logs(run_id)]
    assert not [event for event in events if "canary" in event]
    assert "canary" not in str(kept.lines)


def test_questions_to_models_are_counted(redis: "redis_client.Redis") -> None:
    count = counting(redis)
    count(ModelCall("qwen", "chat", "answered", 1.5, prompt_tokens=100, completion_tokens=7))
    count(ModelCall("qwen", "chat", "model_unavailable", 30.0))
    metrics = Metrics(redis)
    assert set(metrics.histogram(MODEL_SECONDS)) == {
        ("qwen", "chat", "answered"),
        ("qwen", "chat", "model_unavailable"),
    }
    assert metrics.counter(MODEL_TOKENS) == {("qwen", "prompt"): 100, ("qwen", "completion"): 7}
