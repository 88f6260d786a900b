"""The API as a process: `python -m api [--host ADDRESS] [--port PORT]`."""

import argparse

import uvicorn

from videomoments_dagster import logs
from videomoments_dagster.settings import get_settings

_SHUTDOWN_SECONDS = 2


def main() -> None:
    settings = get_settings()
    parser = argparse.ArgumentParser(prog="api")
    parser.add_argument("--host", default=settings.backend_host)
    parser.add_argument("--port", type=int, default=settings.backend_port)
    options = parser.parse_args()
    logs.configure("api", settings.log_format)
    uvicorn.run(
        "api.app:create_app",
        factory=True,
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,  # api/observing.py logs each request, by its route
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    main()
