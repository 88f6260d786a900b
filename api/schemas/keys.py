"""API keys as the administration's operations take and show them: the key itself only when it is made."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from api.schemas.base import Input, Output
from db.queries.api_keys import ApiKeyView
from videomoments_dagster.api_keys import LONGEST_NAME, Scope

_KEY = {
    "id": "5f1c9a03be77",
    "name": "dashboard",
    "scope": "read",
    "created_at": "2026-01-01T12:00:00Z",
    "expires_at": "2026-04-01T12:00:00Z",
    "revoked_at": None,
    "last_used_at": "2026-01-02T08:30:00Z",
}


class CreateKey(Input):
    """Each scope includes those before it: read, write, admin. Without `expires_days` it is good until revoked."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "dashboard", "scope": "read", "expires_days": 90}},
        str_strip_whitespace=True,
    )

    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="What it is for")
    scope: Scope = "read"
    expires_days: int | None = Field(None, ge=1, le=36500)


class Key(Output):
    """Without its secret. `last_used_at` is up to a minute behind."""

    model_config = ConfigDict(json_schema_extra={"example": _KEY})

    id: str
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKey(Key):
    """With `key`, which is shown this once and stored nowhere."""

    model_config = ConfigDict(
        json_schema_extra={"example": {**_KEY, "last_used_at": None, "key": "vm_(43 letters, digits, '-' and '_')"}}
    )

    key: str


class KeyPage(Output):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [_KEY], "next_cursor": None}})

    items: list[Key]
    next_cursor: str | None


def api_key(view: ApiKeyView) -> Key:
    return Key.model_construct(**_fields(view))


def new_api_key(view: ApiKeyView, key: str) -> NewKey:
    return NewKey.model_construct(**_fields(view), key=key)


def _fields(view: ApiKeyView) -> dict[str, Any]:
    return {
        "id": view.identifier,
        "name": view.name,
        "scope": view.scope,
        "created_at": view.created_at,
        "expires_at": view.expires_at,
        "revoked_at": view.revoked_at,
        "last_used_at": view.last_used_at,
    }
