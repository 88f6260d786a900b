"""One entry of the model registry: where a model is reached, what it can do, and how it is asked.

An entry without `ssh_host` is reached directly at `base_url`; one with neither is not configured. `builtin_*` entries
run in this process. Secrets are never part of an entry: a key file is named, an API key's variable is named.
"""

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.settings import Settings

KEY_PATTERN = r"[a-z0-9][a-z0-9_]{0,63}"
BUILTIN_PREFIX = "builtin_"
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_WHERE = (
    "kind", "supports_video", "ssh_host", "ssh_port", "ssh_user", "remote_host", "remote_port", "base_url", "endpoint",
    "model_name", "video_transport",
)  # fmt: skip


class ModelSettings(BaseModel):
    """What can be set of an entry. Times are seconds, sizes bytes. An empty text means: not set (for `ssh_*`: what the
    settings say)."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"kind": "chat", "ssh_host": "gpu.example.org", "remote_port": 8000}},
    )

    kind: Literal["speech", "chat"] = Field(description="What it does: transcribe, or answer in words")
    supports_video: bool = Field(False, description="It watches clips")
    ssh_host: str = Field("", max_length=253, description="Host of the SSH tunnel")
    ssh_port: int = Field(22, ge=1, le=65535, description="SSH port of that host")
    ssh_user: str = Field("", max_length=64, description="User on that host")
    ssh_key_file: str = Field("", max_length=1024, description="Private key file; the agent's keys when empty")
    remote_host: str = Field(
        "localhost",
        min_length=1,
        max_length=253,
        description="The model's host, seen from the SSH host",
    )
    remote_port: int = Field(8000, ge=1, le=65535, description="The model's port there")
    local_port: int = Field(0, ge=0, le=65535, description="Local end of the tunnel; 0: any free port")
    base_url: str = Field("", max_length=1024, description="http(s) address of a server that needs no tunnel")
    endpoint: str = Field("", max_length=256, pattern=r"^(/[A-Za-z0-9._~/-]*)?$", description="Path of the operation")
    model_name: str = Field("", max_length=256, description="The server's own name of the model")
    api_key_variable: str = Field(
        "", max_length=128, pattern=r"^[A-Z0-9_]*$", description="Environment variable with its API key"
    )
    timeout_seconds: float = Field(600.0, gt=0, le=86_400, description="Longest silence of the server in one answer")
    context_tokens: int = Field(32_768, ge=2_048, le=10_000_000, description="Tokens of question and answer together")
    max_tokens: int = Field(4_096, ge=64, le=1_000_000, description="Most tokens of an answer")
    temperature: float = Field(0.0, ge=0, le=2, description="0: always the likeliest word")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling; unset: the server's")
    top_k: int | None = Field(None, ge=1, le=100_000, description="Top-k sampling; unset: the server's")
    video_transport: Literal["url", "data", "frames"] = Field(
        "url", description="How a clip is sent: its signed URL, its bytes, or still frames"
    )
    max_video_bytes: int = Field(32 * 1024**2, gt=0, description="Largest clip that is sent as bytes")
    fallback: str = Field("", pattern=f"^({KEY_PATTERN})?$", description="Key of the model used while this one is down")

    @field_validator("base_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)  # ValueError for an address in brackets that is none
        _ = parts.port  # ValueError for one above 65535
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("an http:// or https:// address with a host, without a query")
        if parts.username is not None or parts.password is not None:
            raise ValueError("no password here: name the variable that holds it in api_key_variable")
        _require_host(parts.hostname)
        return url.rstrip("/")

    @field_validator("ssh_host", "remote_host")
    @classmethod
    def _host(cls, host: str) -> str:
        _require_host(host)
        return host

    @field_validator("top_p", "top_k", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value


class ModelEntry(ModelSettings):
    """An entry whole: its settings under its key."""

    key: str = Field(pattern=f"^{KEY_PATTERN}$", description="The name that requests and settings use")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.base_url and self.ssh_host:
            raise ValueError("base_url and ssh_host exclude each other")
        if self.ssh_port != 22 and not self.ssh_host:
            raise ValueError("ssh_port needs ssh_host; the settings' host has VIDEOMOMENTS_SSH_PORT")
        if self.fallback == self.key:
            raise ValueError("fallback is the model itself")
        if self.max_tokens >= self.context_tokens:
            raise ValueError("max_tokens leaves no room for a question in context_tokens")
        if self.kind == "speech" and self.supports_video:
            raise ValueError("supports_video is for kind chat")
        return self

    @property
    def is_builtin(self) -> bool:
        return self.key.startswith(BUILTIN_PREFIX)

    @property
    def is_configured(self) -> bool:
        """Whether it says where the model is. It may still be down."""
        return self.is_builtin or bool(self.base_url or self.ssh_host)

    @property
    def fingerprint(self) -> str:
        """Changes with what a calibration verdict depends on: where the model is, and which it is."""
        values = self.model_dump(include=set(_WHERE))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def with_settings(self, settings: Settings) -> "ModelEntry":
        """The entry as it is used: what it leaves open about SSH comes from the settings."""
        if self.is_builtin or self.base_url:
            return self
        host = self.ssh_host or settings.ssh_host or ""
        own = bool(self.ssh_host)
        return self.model_copy(
            update={
                "ssh_host": host,
                "ssh_port": self.ssh_port if own else settings.ssh_port,
                "ssh_user": self.ssh_user or settings.ssh_user or "",
                "ssh_key_file": self.ssh_key_file or str(settings.ssh_key_file or ""),
            }
        )

    @classmethod
    def parse(cls, key: str, fields: Mapping[str, Any]) -> "ModelEntry":
        """Validate, or raise InvalidConfig naming each field that is wrong."""
        if "key" in fields:
            raise InvalidConfig(
                f"Model {key[:64]!r}: its key can't be changed.", hint="Add another, and remove this one."
            )
        try:
            return cls.model_validate({**fields, "key": key})
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors()]
            known = ", ".join(name for name in cls.model_fields if name != "key")
            raise InvalidConfig(f"Model {key[:64]!r}: {'; '.join(faults)}.", hint=f"Known fields: {known}.") from None


def _require_host(host: str) -> None:
    """Raises ValueError for what is neither empty, nor a host name, nor an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host and not all(_LABEL.fullmatch(label) for label in host.rstrip(".").split(".")):
            raise ValueError("a host name or an IP address") from None
