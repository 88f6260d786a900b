"""`pipeline:{video}:cancel`: who is to stop, for the process that executes it; `pipeline:cancels` wakes who looks after
the rest. The truth is `pipeline_requests.cancel_requested_at`: what is lost here only takes longer.
"""

from typing import Any

import redis

from videomoments_dagster.redis_connection import reaching

TTL_SECONDS = 5 * 60
_WAKE = "pipeline:cancels"
_FORGET_IF = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


def key(video: str) -> str:
    return f"pipeline:{video}:cancel"


class CancelFlag:
    """The flag's value is the owner of the video's lock: the request's id, or the first run's when it was started in
    the UI. A later run has another, so that it is not stopped by what was meant for the one before.

    Methods raise ServiceUnavailable when Redis is away.
    """

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def order(self, video: str, owner: str) -> None:
        """Have `owner` stopped: within a second where it runs, and out of the queue where it waits."""
        with reaching(self._redis), self._redis.pipeline() as batch:
            batch.set(key(video), owner, ex=TTL_SECONDS)
            batch.lpush(_WAKE, video)
            batch.ltrim(_WAKE, 0, 99)
            batch.execute()

    def ordered(self, video: str) -> str | None:
        """Whom the flag means."""
        with reaching(self._redis):
            owner: Any = self._redis.get(key(video))
            return owner

    def wait(self, seconds: float) -> list[str]:
        """Videos whose flags were set since the last call; waits up to `seconds` for the first one."""
        with reaching(self._redis):
            first: Any = self._redis.blpop([_WAKE], timeout=seconds)
            if first is None:
                return []
            more: Any = self._redis.lpop(_WAKE, 100)
        return list(dict.fromkeys([first[1], *(more or [])]))

    def forget(self, video: str) -> bool:
        """False when there is none."""
        with reaching(self._redis):
            return bool(self._redis.delete(key(video)))

    def forget_if(self, video: str, owner: str) -> bool:
        """`forget`, unless the flag means somebody else than `owner`."""
        with reaching(self._redis):
            return bool(self._redis.eval(_FORGET_IF, 1, key(video), owner))
