"""Changes of a video's live status for those who follow it: the channel `pipeline:events` wakes who listens, and the
stream `pipeline:{video}:events` keeps what they may have missed, each entry with the whole status as it was then.

Who calls sends the commands, together with the change itself (status.py). Progress wakes, and is not kept.
"""

import re
from typing import Any

import redis
from redis.client import Pipeline

CHANNEL = "pipeline:events"
MOST_KEPT = 256
"""Changes a video, 395 kB at most: a run makes about 25, which take 30 kB."""
KEPT_SECONDS = 3600
"""After the last change: for those who lost their connection, not for history."""
_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_TELL = """
local fields = redis.call('HGETALL', KEYS[1])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', unpack(fields))
redis.call('EXPIRE', KEYS[2], ARGV[2])
return redis.call('PUBLISH', ARGV[3], ARGV[4])
"""


def key(video: str) -> str:
    return f"pipeline:{video}:events"


def tell(batch: Pipeline, video: str, status_key: str) -> None:
    """Add to `batch`: keep the status in the hash `status_key` as an event, and wake who listens."""
    batch.eval(_TELL, 2, status_key, key(video), str(MOST_KEPT), str(KEPT_SECONDS), CHANNEL, video)


def wake(batch: Pipeline, video: str) -> None:
    """Add to `batch`: wake who listens."""
    batch.publish(CHANNEL, video)


def is_later(one: str | None, other: str | None) -> bool:
    """Whether the event `one` came after the event `other`; never of what is no id."""
    if not (one and other and _ID.fullmatch(one) and _ID.fullmatch(other)):
        return False
    return [int(part) for part in one.split("-")] > [int(part) for part in other.split("-")]


def read(client: "redis.Redis", video: str, after: str | None) -> list[tuple[str, dict[str, str]]]:
    """Events after the id `after`, oldest first; only the newest when `after` is None or not the id of one that is
    kept. Raises redis.RedisError."""
    if after and _ID.fullmatch(after):
        found: Any = client.xrange(key(video), after, count=MOST_KEPT * 2)
        if found and found[0][0] == after:
            return found[1:]
    newest: Any = client.xrevrange(key(video), count=1)
    return newest
