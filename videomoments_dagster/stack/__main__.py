"""`python -m videomoments_dagster.stack FD [--no-dagster]`: the supervisor of a detached platform.

It reports to the pipe FD, one JSON line an event, until the platform is ready, and closes it.
"""

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict

from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.supervisor import Event, Supervisor


def main() -> None:
    pipe = os.fdopen(int(sys.argv[1]), "w", buffering=1)

    def report(event: Event) -> None:
        if pipe.closed:
            sys.stderr.write(f"{event.text}\n")
            sys.stderr.flush()
            return
        with suppress(BrokenPipeError):  # whoever started us has gone: the platform stays
            pipe.write(json.dumps(asdict(event)) + "\n")
        if event.kind == "ready":
            with suppress(BrokenPipeError):
                pipe.close()

    try:
        Supervisor(get_settings(), report, with_dagster="--no-dagster" not in sys.argv).run()
    except VideoMomentsError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        if not pipe.closed:
            with suppress(BrokenPipeError):
                pipe.write(json.dumps({"error": {"message": error.message, "hint": error.hint}}) + "\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
