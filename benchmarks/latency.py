"""How long a person waits: from the POST to the first step, to the last stage, and to the recorded end of the run.

A whole platform of its own, one short video at a time, times taken from the live status. The baseline is the same work
called directly, without Dagster, queue and processes.
"""

import os
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmarks.direct import process
from benchmarks.measuring import Cost, measured, row
from tests.media.make import Drawing, draw
from tests.web import serving
from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.follow import ENDED
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.stack.detached import start_detached
from videomoments_dagster.stack.home import Home

ROUNDS = 5
FIRST_STEP_AIM_SECONDS = 1.0


def main() -> None:
    print(f"\nSubmit to done, an idle platform, a video of 4 s without speech (medians of {ROUNDS})")
    row("", "wall s", "ratio")
    for field in Settings.model_fields.values():
        os.environ.pop(str(field.alias), None)
    with tempfile.TemporaryDirectory(prefix="videomoments-bench-") as name:
        os.environ |= {"VIDEOMOMENTS_HOME": name, "VIDEOMOMENTS_ALLOW_PRIVATE_URLS": "1"}
        get_settings.cache_clear()
        home = Home(get_settings().home)
        try:
            start_detached(home, lambda event: None)
            os.environ |= home.running()["environment"]
            get_settings.cache_clear()
            _measure(draw(Path(name) / "short.mp4", Drawing(seconds=4)))
        finally:
            home.stop()


def _measure(video: Path) -> None:
    api, bare, waits = Api(), [], []
    with serving() as web:
        for n in range(ROUNDS):
            url = web.serve_file(f"/short-{n}.mp4", video)
            with tempfile.TemporaryDirectory() as work, measured() as cost:
                process(f"direct-{n}", url, Path(work))
            bare.append(cost)
            waits.append(_submit(api, url))
    baseline = Cost(median(cost.wall for cost in bare)).wall
    row("the same functions, called directly (baseline)", f"{baseline:.2f}", "1.00")
    for number, what in enumerate(("POST to first step", "POST to last stage completed", "POST to recorded end")):
        seconds = median(wait[number] for wait in waits)
        row(what, f"{seconds:.2f}", f"{seconds / baseline:.2f}")
    print(f"  aim: first step under {FIRST_STEP_AIM_SECONDS} s")


def _submit(api: Api, url: str) -> tuple[float, float, float]:
    """Seconds from the POST to the first step, to the end of the last stage, to the recorded end."""
    posted = time.time()
    request = api.post("/api/videos", {"url": url, "config": {}})
    while True:
        status = api.get(f"/api/pipeline/{request['video_id']}/status")
        if status["status"] in ENDED:
            break
        time.sleep(0.2)
    assert status["status"] == "completed", status
    starts = [_seconds(stage["started_at"]) for stage in status["stages"]]
    ends = [_seconds(stage["completed_at"]) for stage in status["stages"]]
    return min(starts) - posted, max(ends) - posted, _seconds(status["completed_at"]) - posted


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
