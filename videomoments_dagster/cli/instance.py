"""For commands that look into Dagster itself: which instance they mean."""

import os

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.home import Home


def use_running_platform() -> None:
    """Dagster finds its instance by environment variables: those of the running platform, unless they are set."""
    if os.environ.get("DAGSTER_HOME"):
        return
    home = Home(get_settings().home)
    running = home.running()
    if not running:
        raise ServiceUnavailable(
            f"No platform runs in {home.path}.", hint="Start it with `videomoments up --detach`, or set DAGSTER_HOME."
        )
    os.environ |= running["environment"]
    get_settings.cache_clear()
