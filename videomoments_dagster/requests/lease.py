"""`run:{run_id}:lease`: which process executes a run. Claim, heartbeat and verdict in one key.

Whoever executes a run holds its lease and renews it; a run whose lease ended has no living worker. The verdict that it
is lost takes the same key, so that a process that was only slow, or cut off, can't come back to a run given to another.
"""

from typing import Any

import redis

from videomoments_dagster.redis_connection import reaching
from videomoments_dagster.requests.cancel import key as cancel_key

TTL_SECONDS = 6.0
RENEW_SECONDS = 1.0
FENCE_SECONDS = 8.0
"""A process that has not renewed its lease for so long ends itself. Longer than TTL_SECONDS, shorter than it takes to
be declared lost: TTL_SECONDS plus CONFIRM_SECONDS."""
CONFIRM_SECONDS = 3.0
"""How long a lease must have been away before its run is declared lost."""
_VERDICT_SECONDS = 24 * 3600
_LOST = "lost: "

_RENEW = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return -1 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if KEYS[3] and redis.call('GET', KEYS[3]) == ARGV[3] then return 1 end
return redis.call('EXISTS', KEYS[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[2]) end
"""
_DECLARE = """
local held = redis.call('GET', KEYS[1])
if held and (ARGV[2] == '' or string.sub(held, 1, #ARGV[2]) ~= ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return 1
"""
_FORGET = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class LeaseLost(Exception):
    """Another process holds the run, or it was declared lost."""


class RunLease:
    """The lease of one run. `holder` names the process, unique among all that ever ran. `video` and `owner` name the
    flag that cancels it too (requests/cancel.py).

    Every method raises ServiceUnavailable when Redis is away.
    """

    def __init__(
        self, client: "redis.Redis", run_id: str, *, video: str | None = None, owner: str | None = None
    ) -> None:
        self._redis = client
        self._flag = (cancel_key(video), owner) if video and owner else None
        self._lease, self._cancel = f"run:{run_id}:lease", f"run:{run_id}:cancel"

    def claim(self, holder: str) -> bool:
        """Whether `holder` is now the one process that may execute the run. Safe to repeat: the answer to an earlier
        claim may have been lost."""
        with reaching(self._redis):
            claimed = bool(self._redis.set(self._lease, holder, nx=True, px=int(TTL_SECONDS * 1000)))
        return claimed or self._held() == holder

    def renew(self, holder: str) -> bool:
        """Hold the lease for TTL_SECONDS from now; also after Redis lost it. Returns whether the run is to be
        cancelled. Raises LeaseLost."""
        keys, values = [self._lease, self._cancel], [holder, str(int(TTL_SECONDS * 1000))]
        if self._flag:
            keys, values = [*keys, self._flag[0]], [*values, self._flag[1]]
        with reaching(self._redis):
            answer: Any = self._redis.eval(_RENEW, len(keys), *keys, *values)
        if answer < 0:
            raise LeaseLost
        return answer == 1

    def release(self, holder: str) -> None:
        """Give the lease up, if it is still `holder`'s. An order to cancel goes with it."""
        with reaching(self._redis):
            self._redis.eval(_RELEASE, 2, self._lease, self._cancel, holder)

    def holder(self) -> str | None:
        """The process that executes the run; None when nobody does, or it was declared lost."""
        held = self._held()
        return None if held is None or held.startswith(_LOST) else held

    def verdict(self) -> str | None:
        """Why the run was declared lost; None when it was not."""
        held = self._held()
        return held.removeprefix(_LOST) if held and held.startswith(_LOST) else None

    def declare_lost(self, reason: str, *, held_by: str | None = None) -> bool:
        """Decide that nobody executes the run. False when somebody holds it after all, unless the holder's name starts
        with `held_by`: that is for who ended the holder, or ends it now."""
        with reaching(self._redis):
            return bool(
                self._redis.eval(_DECLARE, 1, self._lease, _LOST + reason, held_by or "", str(_VERDICT_SECONDS))
            )

    def forget_verdict(self) -> None:
        """Let the run be claimed again: it was lost before it had begun."""
        with reaching(self._redis):
            self._redis.eval(_FORGET, 1, self._lease, _LOST)

    def order_cancel(self) -> None:
        """Have the holder interrupt the run at its next renewal."""
        with reaching(self._redis):
            self._redis.set(self._cancel, "1", ex=3600)

    def _held(self) -> str | None:
        with reaching(self._redis):
            held: Any = self._redis.get(self._lease)
            return held
