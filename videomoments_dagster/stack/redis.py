"""An embedded Redis: Valkey from a wheel, with its data in an append-only file written down every second.

Loss of the last second is allowed for: PostgreSQL is the truth about what was asked.
"""

import contextlib
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NoAnswer

from videomoments_dagster.stack.binaries import find_redis
from videomoments_dagster.stack.files import write_private_text
from videomoments_dagster.stack.process_table import holders, stop_all
from videomoments_dagster.stack.server import EmbeddedServer


class EmbeddedRedis(EmbeddedServer):
    """A server whose data is `directory`/data."""

    name = "Redis"

    @property
    def url(self) -> str:
        return f"redis://default:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def evict(self) -> None:
        stop_all(holders(self.data), grace_seconds=self.grace_seconds)

    def prepare(self) -> None:
        self.data.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self.password,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',  # the append-only file is enough; by default a snapshot would be written beside it
            "aof-load-truncated": "yes",
            "daemonize": "no",
        }
        configuration = self.directory / "server.conf"  # a file, so that no process list shows the password
        write_private_text(configuration, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return [str(find_redis()), str(configuration)]

    def answers(self) -> bool:
        with contextlib.closing(Redis.from_url(self.url, socket_connect_timeout=2, socket_timeout=2)) as client:
            try:
                return bool(client.ping())
            except (NotConnected, NoAnswer):  # still loading counts as such
                return False
