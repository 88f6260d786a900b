"""How many requests a key may make, and how often an address may try keys that are none.

Requests are taken from the shared bucket a second's worth at a time, so that one request in many costs a round trip.
No key gets more than its limit for that: at most what a process has taken and not used within ten seconds is lost.
"""

import asyncio
import ipaddress
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from anyio.to_thread import run_sync

from api.services import Services
from videomoments_dagster.errors import RateLimited, ServiceUnavailable
from videomoments_dagster.requests.rate_limit import WINDOW_SECONDS, RateLimit

_KEPT_SECONDS = 10.0
_PATIENCE_SECONDS = 0.5
"""Redis that takes longer counts as away; then nobody is limited, and it is asked again after `_AWAY_SECONDS`."""
_AWAY_SECONDS = 5.0
_MOST_BUCKETS = 10_000
_FAILURES_A_MINUTE = 30
_log = logging.getLogger("videomoments.access")


@dataclass(slots=True)
class _Bucket:
    """`here` requests are taken already, and good until `kept_until`; `left` was in the shared bucket then."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    here: int = 0
    left: float = 0.0
    kept_until: float = 0.0
    empty_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of `limit` requests a minute, and when all of them are there again."""

    limit: int
    remaining: int
    full_in_seconds: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those of the IETF's draft on rate limit header fields."""
        state = f'"default";r={self.remaining};t={self.full_in_seconds}'
        policy = f'"default";q={self.limit};w={WINDOW_SECONDS}'
        return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode())]


class RateLimits:
    """Made once an application. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._away_until = 0.0

    async def take(self, services: Services, name: str, limit: int) -> Quota | None:
        """Count a request of key `name`. None while Redis is away: then all are let through. Raises RateLimited."""
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._buckets.pop(next(iter(self._buckets)))
            bucket = self._buckets[name] = _Bucket()
        if not self._ready(bucket):
            async with bucket.lock:
                if not self._ready(bucket) and not await self._fill(services, name, bucket, limit):
                    return None
        if bucket.here <= 0:
            seconds = max(0.0, bucket.empty_until - self._clock())
            raise RateLimited(
                f"This key may make {limit} requests a minute, and has made them.",
                retry_after_seconds=math.ceil(seconds) or 1,
            )
        bucket.here -= 1
        return self._quota(bucket, limit)

    def state(self, name: str, limit: int) -> Quota:
        """What is left to a key, as this process knows it."""
        return self._quota(self._buckets.get(name) or _Bucket(), limit)

    def _ready(self, bucket: _Bucket) -> bool:
        """Whether the answer is known here: yes while some are left over, no while the shared bucket is empty."""
        now = self._clock()
        return (bucket.here > 0 and now < bucket.kept_until) or now < bucket.empty_until

    async def _fill(self, services: Services, name: str, bucket: _Bucket, limit: int) -> bool:
        now = self._clock()
        if now < self._away_until:
            return False
        wanted = max(1, limit // WINDOW_SECONDS)
        taken = None
        try:
            with anyio.move_on_after(_PATIENCE_SECONDS):
                taken = await run_sync(RateLimit(services.redis).take, name, wanted, limit, abandon_on_cancel=True)
        except ServiceUnavailable:
            pass
        if taken is None:
            self._away_until = now + _AWAY_SECONDS
            _log.warning("Redis does not answer: API keys are not limited for %d s.", _AWAY_SECONDS)
            return False
        bucket.here, bucket.left, bucket.kept_until = taken.granted, taken.left, now + _KEPT_SECONDS
        bucket.empty_until = 0.0 if taken.granted else now + (1 - taken.left) * WINDOW_SECONDS / limit
        return True

    def _quota(self, bucket: _Bucket, limit: int) -> Quota:
        remaining = min(limit, bucket.here + int(bucket.left))
        return Quota(limit, remaining, math.ceil((limit - remaining) * WINDOW_SECONDS / limit))


class FailedKeys:
    """Counts keys that were none, by the address they came from: 30 a minute each. In this process's memory alone, and
    of the last 10,000 addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def check(self, address: str) -> None:
        """Raises RateLimited when so many have come from there that another is not looked at."""
        if (left := self._of(_network(address))) < 1:
            seconds = (1 - left) * 60 / _FAILURES_A_MINUTE
            raise RateLimited("Too many keys from this address were wrong.", retry_after_seconds=math.ceil(seconds))

    def note(self, address: str) -> None:
        network = _network(address)
        left = self._of(network) - 1
        self._left.pop(network, None)
        if len(self._left) >= _MOST_BUCKETS:
            self._left.pop(next(iter(self._left)))
        self._left[network] = (left, self._clock())

    def _of(self, network: str) -> float:
        left, at = self._left.get(network, (float(_FAILURES_A_MINUTE), 0.0))
        return min(float(_FAILURES_A_MINUTE), left + (self._clock() - at) * _FAILURES_A_MINUTE / 60)


def _network(address: str) -> str:
    """Whoever has one address of IPv6 has 2**64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
