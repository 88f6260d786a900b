"""The Redis stream `pipeline:requests`: carries requests fast to the ingest sensor. PostgreSQL holds the truth.

Other producers may XADD `{request_id, url|video_id, config, requested_at}` themselves. A message that can't be
understood goes to `pipeline:requests:dead` with the reason, so that the stream moves on.
"""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import redis

from videomoments_dagster.errors import InvalidInput
from videomoments_dagster.identifiers import identifier_from_url, validate_identifier
from videomoments_dagster.redis_connection import reaching
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType

STREAM = "pipeline:requests"
DEAD = "pipeline:requests:dead"
_MOST_DEAD = 10_000
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
    that without the row its video was deleted."""

    request_id: str
    video_id: str
    pipeline_type: PipelineType
    url: str | None
    config: dict[str, Any]
    is_recorded: bool = False

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
        """The message in `fields`, checked. Raises InvalidInput or a subclass that says what is wrong with it."""
        if fields.get("kind") == "delete":
            return DeleteMessage(validate_identifier(fields.get("video_id", "")))
        url = fields.get("url") or None
        if not fields.get("request_id") or len(fields["request_id"]) > 36:
            raise InvalidInput("request_id is missing or longer than 36 characters.")
        if not url and not fields.get("video_id"):
            raise InvalidInput("Neither url nor video_id is given.")
        try:
            config = json.loads(fields.get("config") or "{}")
            pipeline_type = PipelineType(fields.get("pipeline_type") or PipelineType.FULL)
        except ValueError as error:
            raise InvalidInput(f"config or pipeline_type can't be read: {error}") from None
        if not isinstance(config, dict):
            raise InvalidInput("config is not a JSON object.")
        PipelineConfig.parse(config)
        return StartMessage(
            request_id=fields["request_id"],
            video_id=validate_identifier(fields.get("video_id") or identifier_from_url(url or "")),
            pipeline_type=pipeline_type,
            url=url,
            config=config,
            is_recorded=fields.get("recorded") == "1",
        )


def is_before(one: str, other: str) -> bool:
    """Whether the stream id `one` is older than `other`."""
    return _parts(one) < _parts(other)


def _parts(identifier: str) -> tuple[int, int]:
    """A stream id as numbers: milliseconds since 1970, and a count within them."""
    ms, _, count = identifier.partition("-")
    return int(ms), int(count or 0)
