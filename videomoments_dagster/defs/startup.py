"""Start-up step of the platform, `python -m videomoments_dagster.defs.startup [--migrate]`: Dagster's tables, with
--migrate those of an older Dagster made new, pool limits, and the end of temporary files that an earlier platform left.

Idempotent. Limits come from the settings, never from hand edits in the UI.
"""

import logging
import sys

import dagster as dg

from videomoments_dagster.defs import logs
from videomoments_dagster.defs.policies import pool_limits
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.settings import get_settings
from videomoments_dagster.temp_files import TempFiles


def migrate() -> None:
    """Bring the tables of an older Dagster to what this one wants."""
    with dg.DagsterInstance.get() as instance:
        instance.upgrade()


def main() -> None:
    with dg.DagsterInstance.get() as instance:
        for pool, limit in pool_limits(get_settings()).items():
            instance.event_log_storage.set_concurrency_slots(pool, limit)
    TempFiles.of(get_settings()).clean()


if __name__ == "__main__":
    logs.configure("dagster-storage")
    try:
        if "--migrate" in sys.argv:
            migrate()
        main()
    except VideoMomentsError as error:
        logging.getLogger("videomoments").critical("%s %s", error.message, error.hint)
        sys.exit(1)
