"""The API as a process: `python -m api [--host ADDRESS] [--port PORT]`."""

import argparse
import resource
import socket
import sys
from contextlib import suppress

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from api.app import create_app
from api.events import StatusHub
from api.http_protocol import BoundedHeads
from videomoments_dagster import garbage, logs
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.settings import get_settings

_SHUTDOWN_SECONDS = 2
_MOST_FILES = 65_536


class Server(uvicorn.Server):
    """Ends the streams of events before it waits for the answers that are still being sent."""

    def __init__(self, config: uvicorn.Config, events: StatusHub) -> None:
        super().__init__(config)
        self._events = events

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.close()
        await super().shutdown(sockets)


def raise_file_limit() -> None:
    """A connection is a descriptor, and many systems begin with 1,024 a process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    settings = get_settings()
    parser = argparse.ArgumentParser(prog="api")
    parser.add_argument("--host", default=settings.backend_host)
    parser.add_argument("--port", type=int, default=settings.backend_port)
    options = parser.parse_args()
    logs.configure("api", settings.log_format)
    try:
        app = create_app(settings.model_copy(update={"backend_host": options.host}))
    except VideoMomentsError as error:
        sys.exit(f"{error.message} {error.hint}")
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        http=BoundedHeads,
        log_config=None,
        access_log=False,  # api/observing.py logs each request, by its route
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    raise_file_limit()
    garbage.as_usual()
    server = Server(config, app.state.events)
    with suppress(KeyboardInterrupt):  # as uvicorn.run does
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


if __name__ == "__main__":
    main()
