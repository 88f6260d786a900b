"""`workers` and `worker:{name}`: which workers there are now, where, and for which queues. For people and for the start
of a platform; whether a run has a worker is said by its lease alone.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import redis

from videomoments_dagster.redis_connection import reaching

TTL_SECONDS = 15
ANNOUNCE_SECONDS = 5.0
_NAMES = "workers"


@dataclass(frozen=True, slots=True)
class Worker:
    """`processes` runs can be executed at the same time, `running` are now."""

    name: str
    host: str
    pid: int
    queues: list[str]
    processes: int
    running: int


class WorkerRegistry:
    """Workers announce themselves every ANNOUNCE_SECONDS. Methods raise ServiceUnavailable when Redis is away."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def announce(self, worker: Worker) -> None:
        with reaching(self._redis), self._redis.pipeline() as pipe:
            pipe.sadd(_NAMES, worker.name)
            pipe.set(f"worker:{worker.name}", json.dumps(asdict(worker)), ex=TTL_SECONDS)
            pipe.execute()

    def leave(self, name: str) -> None:
        with reaching(self._redis), self._redis.pipeline() as pipe:
            pipe.srem(_NAMES, name)
            pipe.delete(f"worker:{name}")
            pipe.execute()

    def living(self) -> list[Worker]:
        """Those that announced themselves within TTL_SECONDS, by host and name. The others are forgotten."""
        with reaching(self._redis):
            members: Any = self._redis.smembers(_NAMES)
            names = sorted(members)
            values: Any = self._redis.mget([f"worker:{name}" for name in names]) if names else []
            gone = [name for name, value in zip(names, values, strict=True) if value is None]
            if gone:
                self._redis.srem(_NAMES, *gone)
        return sorted((Worker(**json.loads(value)) for value in values if value), key=lambda w: (w.host, w.name))
