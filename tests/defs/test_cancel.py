"""A run that is cancelled in the Dagster UI ends there, although its assets have a retry policy."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler

import dagster as dg
import pytest

from tests.defs.pipeline import execute, submit
from tests.web import serving
from videomoments_dagster.defs.policies import REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.status import LiveStatus


def test_a_cancelled_run_stops_in_its_stage_and_is_not_tried_again(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster answers an interrupt with a retry where there is a policy: cancelled runs went on to their end."""
    monkeypatch.setattr("dagster._core.definitions.policy.RetryPolicy.calculate_delay", lambda self, attempt: 0)
    ended = threading.Event()

    def cancel(_request: BaseHTTPRequestHandler) -> None:
        [run] = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: request_id}))
        instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)  # as the process that launched the run does it
        ended.wait(30)

    with serving() as web:
        web.answers["/talk.mp4"] = cancel
        request_id = submit(platform, "talk", web.url + "/talk.mp4")
        try:
            result = execute(platform, instance, "talk", request_id=request_id)
        finally:
            ended.set()
        assert web.hits["/talk.mp4"] == 1
    run = instance.get_run_by_id(result.run_id)
    assert run and run.status is dg.DagsterRunStatus.CANCELED
    status = LiveStatus(platform.redis).read("talk")
    assert status and status.stages[0].status == "failed"
    assert status.stages[0].error and status.stages[0].error["code"] == "cancelled"
