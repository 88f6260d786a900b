"""When a request is asked again: how often, and how long is waited before. Numbers in, numbers out; no I/O."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `attempts`, with pauses of `base_seconds`, doubled each time, give or take a quarter.

    A pause the server asks for counts when it is the longer one, and neither is longer than `longest_pause_seconds`.
    """

    attempts: int = 4
    base_seconds: float = 1.0
    longest_pause_seconds: float = 60.0

    def pause_seconds(self, attempt: int, asked_seconds: float | None = None) -> float:
        """How long to wait after `attempt` (1 is the first) failed. Many clients must not come back at once."""
        own = self.base_seconds * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311
        return min(max(own, asked_seconds or 0.0), self.longest_pause_seconds)


def asked_pause_seconds(retry_after: str | None, now: datetime | None = None) -> float | None:
    """What a `Retry-After` header asks for, as seconds or as an HTTP date (RFC 9110, 10.2.3); None when unreadable."""
    text = (retry_after or "").strip()
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
