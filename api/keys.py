"""Which keys are good, as this process knows it: asked of PostgreSQL, and remembered for five seconds.

So a key that is revoked is refused within that time, and an API in use asks once in it, not for every request.
"""

import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from starlette.concurrency import run_in_threadpool

from api.services import Services
from db.queries import api_keys
from videomoments_dagster.api_keys import KEY, OPERATOR, hash_of
from videomoments_dagster.errors import ServiceUnavailable

REMEMBERED_SECONDS = 5.0
_RENEWED_SECONDS = 4.0
"""From then on one request asks again, while the others still go by what was remembered."""
_STALE_SECONDS = 600.0
_MOST_REMEMBERED = 10_000


@dataclass(slots=True)
class Grant:
    """What a key may do. `identifier` is nothing secret: `operator` is the key that lies in the data directory."""

    identifier: str
    scope: str


@dataclass(slots=True)
class _Known:
    """`grant` is what was found, until `until`; None: no key has been made yet."""

    grant: Grant | None
    asked_at: float
    until: float
    renewed_at: float


class Keys:
    """Made once an application. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._good: dict[str, _Known] = {}
        self._open: _Known | None = None
        self._configured = False

    @staticmethod
    def any_ever(services: Services) -> bool:
        """Whether a key was ever made, asked now. Raises ServiceUnavailable."""
        with services.database.read() as session:
            return api_keys.any_ever(session)

    async def configured(self, services: Services, *, stale: bool = False) -> bool:
        """Whether a key was ever made. Once it was, this process never takes the API for open again. Raises
        ServiceUnavailable; with `stale` not if it knew the answer ten minutes ago."""
        if self._configured:
            return True
        now, known = self._clock(), self._open
        if known and now < known.until and now < known.renewed_at:
            return False
        if known:
            known.renewed_at = inf
        try:
            self._configured = await run_in_threadpool(self.any_ever, services)
        except ServiceUnavailable:
            if stale and known and now < known.asked_at + _STALE_SECONDS:
                return False
            raise
        self._open = _Known(None, now, now + REMEMBERED_SECONDS, now + _RENEWED_SECONDS)
        return self._configured

    def remembered(self, key: str) -> Grant | None:
        """Without asking anybody. None: it has to be asked for."""
        known, now = self._good.get(hash_of(key)), self._clock()
        if known is None or now >= known.until or now >= known.renewed_at:
            return None
        return known.grant

    def was_good_lately(self, key: str) -> bool:
        """Whether it was good when it was last asked for, within ten minutes."""
        known = self._good.get(hash_of(key))
        return known is not None and self._clock() < known.asked_at + _STALE_SECONDS

    async def find(self, services: Services, key: str, *, stale: bool = False) -> Grant | None:
        """The grant of `key`; None when it is not, or no longer, good. Raises ServiceUnavailable, as `configured`."""
        if not KEY.fullmatch(key):
            return None
        key_hash = hash_of(key)
        now, known = self._clock(), self._good.get(key_hash)
        if known:
            known.renewed_at = inf
        try:
            grant, seconds_left = await run_in_threadpool(_find, services, key_hash)
        except ServiceUnavailable:
            if stale and known and now < known.asked_at + _STALE_SECONDS:
                return known.grant
            raise
        self._good.pop(key_hash, None)
        if grant:
            while len(self._good) >= _MOST_REMEMBERED:
                self._good.pop(next(iter(self._good)), None)
            until = now + min(REMEMBERED_SECONDS, seconds_left)
            self._good[key_hash] = _Known(grant, now, until, now + _RENEWED_SECONDS)
        return grant


def _find(services: Services, key_hash: str) -> tuple[Grant | None, float]:
    """With the seconds that it is still good."""
    with suppress(OSError):  # a data directory that this user can't read has no operator here
        if hmac.compare_digest(key_hash, hash_of(services.settings.operator_key)):
            return Grant(OPERATOR, "admin"), inf
    with services.database.session() as session:
        found = api_keys.find_good(session, key_hash)
    if found is None:
        return None, 0.0
    return Grant(found.identifier, found.scope), inf if found.seconds_left is None else found.seconds_left
