"""The Redis stream `pipeline:requests`: carries requests fast to the ingest sensor. PostgreSQL holds the truth.

Other producers may XADD `{request_id, url|video_id, config, requested_at}` themselves. A message that can't be
understood goes to `pipeline:requests:dead` with the reason, so that the stream moves on.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from videomoments_dagster.errors import InvalidInput
from videomoments_dagster.identifiers import identifier_from_url, validate_identifier
from videomoments_dagster.redis_connection import reaching
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType

STREAM = "pipeline:requests"
DEAD = "pipeline:requests:dead"
_MAX_MESSAGES = 100_000  # far beyond any backlog: the durable queue is pipeline_requests


@dataclass(frozen=True, slots=True)
class StartMessage:
    """Start the pipeline of a video. `url` is None for uploads and re-runs."""

    request_id: str
    video_id: str
    pipeline_type: PipelineType
    url: str | None
    config: dict[str, Any]


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
        with reaching(self._redis):
            return str(self._redis.xadd(STREAM, fields, maxlen=_MAX_MESSAGES, approximate=True))

    def read(self, after: str, *, count: int, block_seconds: float) -> list[tuple[str, dict[str, str]]]:
        """Up to `count` raw messages after the stream id `after`, waiting up to `block_seconds` for the first one."""
        with reaching(self._redis):
            answer: Any = self._redis.xread({STREAM: after}, count=count, block=max(1, int(block_seconds * 1000)))
        if not answer:
            return []
        entries = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
        return [(str(identifier), dict(fields)) for identifier, fields in entries]

    def bury(self, identifier: str, fields: dict[str, str], reason: str) -> None:
        """Copy a message that can't be understood to the dead-letter stream. Reading it again buries it again."""
        with reaching(self._redis):
            self._redis.xadd(DEAD, {**fields, "dead_id": identifier, "dead_reason": reason}, maxlen=10_000)

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
        )
