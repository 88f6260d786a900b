"""Starts a supervisor that outlives this process, and follows it until the platform is ready."""

import json
import os
import subprocess
import sys

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.stack.files import last_lines, open_log
from videomoments_dagster.stack.home import Home
from videomoments_dagster.stack.supervisor import Event, Report


def start_detached(home: Home, report: Report, *, with_dagster: bool = True) -> None:
    """Return when the platform is ready. An interrupt meanwhile stops it. Raises ServiceUnavailable."""
    home.make()
    reading, writing = os.pipe()
    log = home.logs / "supervisor.log"
    argv = [sys.executable, "-m", "videomoments_dagster.stack", str(writing)]
    argv += [] if with_dagster else ["--no-dagster"]
    with open_log(log) as output:
        supervisor = subprocess.Popen(
            argv,
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    os.close(writing)
    ready = False
    try:
        with os.fdopen(reading) as events:
            for line in events:
                message = json.loads(line)
                if "error" in message:
                    raise ServiceUnavailable(message["error"]["message"], hint=message["error"]["hint"])
                report(Event(**message))
                ready = ready or message["kind"] == "ready"
    finally:
        if not ready:
            supervisor.terminate()
            supervisor.wait()
    if not ready:
        raise ServiceUnavailable(f"The supervisor ended early.\n{last_lines(log)}", hint=f"Its log is {log}.")
