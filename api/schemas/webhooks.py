"""Webhooks: where a request's end is told, and the log of telling it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field, SecretStr

from api.schemas.base import Input, Output
from db.queries.webhooks import DeliveryView
from videomoments_dagster.settings import Settings
from videomoments_dagster.webhooks import SECRET_CHARACTERS, Webhook, receiver

_DELIVERY: dict[str, Any] = {
    "id": "msg_0b1d5a5253d34a0b8d2c9f2a1c0b7e11",
    "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
    "video_id": "motivation",
    "event": "completed",
    "receiver": "https://hooks.example.org",
    "state": "pending",
    "attempts": 1,
    "next_attempt_at": "2026-01-01T12:10:05Z",
    "last_attempt_at": "2026-01-01T12:10:00Z",
    "last_status": 502,
    "last_error": "https://hooks.example.org answers 502.",
    "delivered_at": None,
    "created_at": "2026-01-01T12:09:59Z",
    "payload": {
        "type": "pipeline.completed",
        "timestamp": "2026-01-01T12:09:59+00:00",
        "data": {
            "video_id": "motivation",
            "request_id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
            "run_id": "0b1d5a52-53d3-4a0b-8d2c-9f2a1c0b7e11",
            "pipeline_type": "full",
            "status": "completed",
            "number_of_moments": 7,
            "error": None,
            "status_url": "https://videomoments.example.org/api/pipeline/motivation/status",
            "moments_url": "https://videomoments.example.org/api/videos/motivation/moments",
        },
    },
}


class WebhookInput(Input):
    """What a request may say of its webhook."""

    webhook_url: str | None = Field(
        None, min_length=1, max_length=4096, description="http(s) address that is told when the request has ended"
    )
    webhook_secret: SecretStr | None = Field(
        None,
        min_length=SECRET_CHARACTERS[0],
        max_length=SECRET_CHARACTERS[1],
        description="What that is signed with; never shown again. `whsec_` and base64, or any other text",
    )

    def webhook(self, settings: Settings) -> Webhook | None:
        """Raises AddressRefused and InvalidInput."""
        secret = self.webhook_secret.get_secret_value() if self.webhook_secret else None
        return Webhook.parse(self.webhook_url, secret, settings)


class Delivery(Output):
    """An event of a request, and how telling it went. `receiver` is scheme and host of the webhook; `state` is failed
    when it was not heard and is not told again by itself; `last_error` says why."""

    model_config = ConfigDict(json_schema_extra={"example": _DELIVERY})

    id: str
    request_id: str
    video_id: str
    event: Literal["completed", "failed", "cancelled"]
    receiver: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    created_at: datetime
    payload: dict[str, Any]


class DeliveryPage(Output):
    """`next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_DELIVERY], "next_cursor": None}})

    items: list[Delivery]
    next_cursor: str | None


def delivery(view: DeliveryView) -> Delivery:
    return Delivery.model_construct(
        id=view.identifier,
        request_id=view.request_id,
        video_id=view.video_identifier,
        event=view.event,
        receiver=receiver(view.url),
        state=view.state,
        attempts=view.attempts,
        next_attempt_at=view.next_attempt_at,
        last_attempt_at=view.last_attempt_at,
        last_status=view.last_status,
        last_error=view.last_error,
        delivered_at=view.delivered_at,
        created_at=view.created_at,
        payload=view.payload,
    )
