"""The model registry as administrators see and change it."""

from typing import Any, Literal

from pydantic import ConfigDict

from api.schemas.base import Output
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.registry import ModelRegistry, Role, Verdict

ROLES: tuple[Role, ...] = ("speech", "generation", "refinement", "scoring")
_VERDICT = {
    "trusted": True,
    "reason": "Its times are right",
    "offset_seconds": 0.02,
    "drift_seconds_an_hour": 0.1,
    "latency_seconds": 1.3,
    "checked_at": "2026-01-01T12:00:00Z",
}
_ENTRY: dict[str, Any] = ModelEntry.parse(
    "qwen3_vl_fp8", {"kind": "chat", "supports_video": True, "ssh_host": "gpu.example.org", "remote_port": 8000}
).model_dump()
_MODEL: dict[str, Any] = {
    "key": "qwen3_vl_fp8",
    "entry": _ENTRY,
    "is_configured": True,
    "default_for": ["generation", "refinement", "scoring"],
    "verdict": _VERDICT,
}


class ClockVerdict(Output):
    """What the clock check found. Offsets are seconds; null where the model tells no times."""

    model_config = ConfigDict(json_schema_extra={"example": _VERDICT})

    trusted: bool
    reason: str
    offset_seconds: float | None
    drift_seconds_an_hour: float | None
    latency_seconds: float
    checked_at: str


class Model(Output):
    """An entry as it is used, what it is the default for, and its last clock check (null: never, or it was changed
    since). Keys of servers are never part of it, only the names of the variables that hold them."""

    model_config = ConfigDict(json_schema_extra={"example": _MODEL})

    key: str
    entry: ModelEntry
    is_configured: bool
    default_for: list[Literal["speech", "generation", "refinement", "scoring"]]
    verdict: ClockVerdict | None


class BrokenModel(Output):
    """An entry that can't be used until it is set again."""

    key: str
    fault: str


class ModelList(Output):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [_MODEL], "broken": []}})

    items: list[Model]
    broken: list[BrokenModel]


class ModelCheck(Output):
    """How a model answered. A wrong clock is an answer, too: see `verdict`."""

    model_config = ConfigDict(json_schema_extra={"example": {"key": "qwen3_vl_fp8", "verdict": _VERDICT}})

    key: str
    verdict: ClockVerdict


def defaults(registry: ModelRegistry) -> dict[Role, str]:
    return {role: registry.default(role) for role in ROLES}


def model(registry: ModelRegistry, entry: ModelEntry, used: dict[Role, str]) -> Model:
    verdict = None if entry.is_builtin else registry.verdict(entry)
    return Model.model_construct(
        key=entry.key,
        entry=entry,
        is_configured=entry.is_configured,
        default_for=[role for role in ROLES if used[role] == entry.key],
        verdict=clock_verdict(verdict) if verdict else None,
    )


def clock_verdict(verdict: Verdict) -> ClockVerdict:
    return ClockVerdict.model_validate(verdict, from_attributes=True)
