"""`ratelimit:{name}`: a bucket of requests for each API key, filled evenly, shared by all processes of the API."""

from dataclasses import dataclass
from typing import Any

import redis

from videomoments_dagster.redis_connection import reaching

WINDOW_SECONDS = 60

_TAKE = """
local limit, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, at = tonumber(bucket[1]) or limit, tonumber(bucket[2]) or now
left = math.min(limit, left + math.max(0, now - at) * limit / tonumber(ARGV[3]))
local granted = math.min(wanted, math.floor(left))
left = left - granted
redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], tonumber(ARGV[3]) + 1)
return {granted, string.format('%.6f', left)}
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """`granted` requests may be made; `left` are in the bucket still, and fractions of one."""

    granted: int
    left: float


class RateLimit:
    """A token bucket: it holds a minute's requests and is full again a minute after it was empty. Who has been silent
    for a minute may ask so many at once, and goes on at `limit` a minute."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def take(self, name: str, wanted: int, limit: int) -> Taken:
        """Up to `wanted` of the requests that the bucket holds; one round trip. Raises ServiceUnavailable."""
        with reaching(self._redis):
            answer: Any = self._redis.eval(_TAKE, 1, f"ratelimit:{name}", str(limit), str(wanted), str(WINDOW_SECONDS))
        return Taken(int(answer[0]), float(answer[1]))
