"""`pipeline:{video}:lock`: one start at a time for a video, owned by a token, gone by itself when its owner dies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from videomoments_dagster.redis_connection import keys_like, reaching

TTL_SECONDS = 30 * 60

_IF_OWNED = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


def _key(video: str) -> str:
    return f"pipeline:{video}:lock"


@dataclass(frozen=True, slots=True)
class HeldLock:
    """`idle_seconds`: since it was taken or renewed. Who lives renews it six times in TTL_SECONDS."""

    video: str
    owner: str
    idle_seconds: float


class PipelineLock:
    """The token is the request's id, or the first run's when it was started in the Dagster UI."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def acquire(self, video: str, owner: str) -> bool:
        """True when `owner` holds the lock now, whether it did before or not."""
        with reaching(self._redis):
            if self._redis.set(_key(video), owner, nx=True, ex=TTL_SECONDS):
                return True
            return self.renew(video, owner)

    def renew(self, video: str, owner: str) -> bool:
        """Start the 30 minutes anew. False when somebody else holds the lock, or nobody."""
        return self._if_owned(video, owner, TTL_SECONDS)

    def release(self, video: str, owner: str) -> bool:
        return self._if_owned(video, owner, 0)

    def owner(self, video: str) -> str | None:
        with reaching(self._redis):
            value: Any = self._redis.get(_key(video))
            return value

    def held(self) -> Iterator[HeldLock]:
        """Every lock that somebody holds, in no order; one may come twice."""
        for video in keys_like(self._redis, *_key("*").split("*")):
            with reaching(self._redis), self._redis.pipeline(transaction=False) as batch:
                batch.get(_key(video))
                batch.pttl(_key(video))
                owner, left_ms = batch.execute()
            if owner is not None:
                yield HeldLock(video, owner, TTL_SECONDS - left_ms / 1000)

    def _if_owned(self, video: str, owner: str, ttl_seconds: int) -> bool:
        with reaching(self._redis):
            return bool(self._redis.eval(_IF_OWNED, 1, _key(video), owner, str(ttl_seconds)))
