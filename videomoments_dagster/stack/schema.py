"""Start-up step of the platform, `python -m videomoments_dagster.stack.schema`: the product's tables as the code wants
them."""

import logging
import sys

from db import migrate
from videomoments_dagster import logs
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.settings import get_settings

_log = logging.getLogger("videomoments")


def main() -> None:
    settings = get_settings()
    logs.configure("schema", settings.log_format)
    try:
        migrate.upgrade(settings.database_url)
        _log.info("The database is at revision %s.", migrate.current(settings.database_url))
    except VideoMomentsError as error:
        _log.critical("%s %s", error.message, error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
