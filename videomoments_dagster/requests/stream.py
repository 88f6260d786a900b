"""The Redis stream `pipeline:requests`: carries requests fast to the ingest sensor. PostgreSQL holds the truth.

Other producers may XADD `{request_id, url|video_id, config, requested_at, webhook_url, webhook_secret}` themselves. A
message that can't be understood goes to `pipeline:requests:dead` with the reason, so that the stream moves on.
"""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import redis

from videomoments_dagster.errors import InvalidInput, VideoMomentsError
from videomoments_dagster.identifiers import canonical_url, identifier_from_url, validate_identifier
from videomoments_dagster.redis_connection import reaching
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType

STREAM = "pipeline:requests"
DEAD = "pipeline:requests:dead"
TAKEN = "pipeline:requests:taken"
_MOST_DEAD = 10_000
_LONGEST_REQUEST_ID = 36
KEPT_SECONDS = 24 * 3600
"""How long messages that were taken stay, for people who look."""


class Requested(Protocol):
    """What a message takes from a request's row."""

    request_id: Any
    video_identifier: Any
    pipeline_type: Any
    source_url: Any
    config: Any


@dataclass(frozen=True, slots=True)
class StartMessage:
    """Start the pipeline of a video. `url` is None for uploads and re-runs. `is_recorded`: it was made of a row, so
    that without the row its video was deleted. `is_derived`: the video was not named, so that another name will do. A
    webhook is given by other producers only, and not checked here; that of a row stays there."""

    request_id: str
    video_id: str
    pipeline_type: PipelineType
    url: str | None
    config: dict[str, Any]
    is_recorded: bool = False
    is_derived: bool = False
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, row: "Requested") -> "StartMessage":
        """The message of a request's row."""
        kind = PipelineType(row.pipeline_type)
        return cls(row.request_id, row.video_identifier, kind, row.source_url, row.config, is_recorded=True)


@dataclass(frozen=True, slots=True)
class DeleteMessage:
    """The video is gone: remove its partition."""

    video_id: str


Message = StartMessage | DeleteMessage


class RequestStream:
    """Writes and reads the stream. All methods raise ServiceUnavailable when Redis does not answer."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def publish(self, message: Message) -> str:
        """Append `message`; returns its stream id."""
        if isinstance(message, DeleteMessage):
            fields: dict[Any, Any] = {"kind": "delete", "video_id": message.video_id}
        else:
            fields = {
                "kind": "start",
                "request_id": message.request_id,
                "video_id": message.video_id,
                "pipeline_type": message.pipeline_type,
                "config": json.dumps(message.config),
                "requested_at": datetime.now(UTC).isoformat(),
            }
            if message.url:
                fields["url"] = message.url
            if message.is_recorded:
                fields["recorded"] = "1"
        with reaching(self._redis):
            return str(self._redis.xadd(STREAM, fields))

    def read(self, after: str, *, count: int, block_seconds: float) -> list[tuple[str, dict[str, str]]]:
        """Up to `count` raw messages after the stream id `after`, waiting up to `block_seconds` for the first one."""
        with reaching(self._redis):
            answer: Any = self._redis.xread({STREAM: after}, count=count, block=max(1, int(block_seconds * 1000)))
        if not answer:
            return []
        entries = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
        return [(str(identifier), dict(fields)) for identifier, fields in entries]

    def newest(self) -> str | None:
        """The id of the message that was written last; None for a stream without any."""
        with reaching(self._redis):
            last: Any = self._redis.xrevrange(STREAM, count=1)
        return str(last[0][0]) if last else None

    def take(self, identifier: str) -> None:
        """Note that everything up to the stream id `identifier` was taken, for good."""
        with reaching(self._redis):
            self._redis.set(TAKEN, identifier)

    def taken(self) -> str | None:
        """The stream id up to which everything was taken; None when nobody has read yet, or Redis is a new one."""
        with reaching(self._redis):
            identifier: Any = self._redis.get(TAKEN)
        return identifier

    def trim(self, taken: str) -> int:
        """Remove what was taken (everything up to the stream id `taken`) more than KEPT_SECONDS ago; returns how many.
        What nobody has taken stays, however old and however much it is."""
        before = int((time.time() - KEPT_SECONDS) * 1000)
        oldest_kept = min((before, 0), _parts(taken))
        with reaching(self._redis):
            return int(self._redis.xtrim(STREAM, minid="{}-{}".format(*oldest_kept), approximate=True))  # pyright: ignore[reportArgumentType]

    def bury(self, identifier: str, fields: dict[str, str], reason: str) -> None:
        """Copy a message that can't be understood to the dead-letter stream, under its own id: once, however often it
        is read."""
        with reaching(self._redis):
            if self._redis.xrange(DEAD, identifier, identifier, count=1):
                return
            dead: dict[Any, Any] = {**fields, "dead_id": identifier, "dead_reason": reason}
            dead.pop("webhook_secret", None)
            try:
                self._redis.xadd(DEAD, dead, id=identifier, maxlen=_MOST_DEAD)
            except redis.ResponseError:  # the stream was emptied and counts from an earlier time again
                self._redis.xadd(DEAD, dead, maxlen=_MOST_DEAD)

    def dead(self) -> int:
        """How many messages are in the dead-letter stream."""
        with reaching(self._redis):
            count: Any = self._redis.xlen(DEAD)
            return int(count)

    @staticmethod
    def parse(fields: dict[str, str]) -> Message:
        """The message in `fields`, checked. Raises InvalidInput or a subclass that says what is wrong with it, whatever
        is: nobody mends a message, and the ones behind it wait."""
        try:
            return _parsed(fields)
        except VideoMomentsError:
            raise
        except RecursionError:
            raise InvalidInput("config is nested too deeply.") from None
        except ValueError as error:  # of URLs, too
            raise InvalidInput(f"It can't be read: {error}") from None


def time_of(identifier: str) -> datetime:
    """When the message with this stream id was written, by the clock of Redis."""
    return datetime.fromtimestamp(_parts(identifier)[0] / 1000, UTC)


def is_before(one: str, other: str) -> bool:
    """Whether the stream id `one` is older than `other`."""
    return _parts(one) < _parts(other)


def _parts(identifier: str) -> tuple[int, int]:
    """A stream id as numbers: milliseconds since 1970, and a count within them."""
    ms, _, count = identifier.partition("-")
    return int(ms), int(count or 0)


def _parsed(fields: dict[str, str]) -> Message:
    for name, value in fields.items():
        if not (_is_text(name) and _is_text(value)):
            raise InvalidInput(f"{name[:40]!r} is not UTF-8 without NUL.")
    if fields.get("kind") == "delete":
        return DeleteMessage(validate_identifier(fields.get("video_id", "")))
    request_id = fields.get("request_id", "")
    if not (1 <= len(request_id) <= _LONGEST_REQUEST_ID and request_id.isprintable()):
        raise InvalidInput(f"request_id is not 1 to {_LONGEST_REQUEST_ID} printable characters.")
    if not fields.get("url") and not fields.get("video_id"):
        raise InvalidInput("Neither url nor video_id is given.")
    config = json.loads(fields.get("config") or "{}")
    if not isinstance(config, dict):
        raise InvalidInput("config is not a JSON object.")
    PipelineConfig.parse(config)
    url = canonical_url(fields["url"]) if fields.get("url") else None
    return StartMessage(
        request_id=request_id,
        video_id=validate_identifier(fields.get("video_id") or identifier_from_url(url or "")),
        pipeline_type=PipelineType(fields.get("pipeline_type") or PipelineType.FULL),
        url=url,
        config=config,
        is_recorded=fields.get("recorded") == "1",
        is_derived=not fields.get("video_id"),
        webhook_url=fields.get("webhook_url") or None,
        webhook_secret=fields.get("webhook_secret") or None,
    )


def _is_text(value: str) -> bool:
    """Whether PostgreSQL can hold it. Bytes that are not UTF-8 were read as lone surrogates."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
