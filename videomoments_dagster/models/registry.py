"""The model registry in Redis: hash `model:config:{key}` an entry, set `model:config:_keys`, editable while running.

A hash holds what was written for its key; what it leaves out is the code's default, and what an entry leaves open
about SSH comes from the settings. Verdicts of the clock check lie beside, in `model:verdict:{key}`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import redis

from videomoments_dagster.errors import InvalidConfig, NotFound, ServiceUnavailable
from videomoments_dagster.models.defaults import DEFAULTS
from videomoments_dagster.models.entry import BUILTIN_PREFIX, ModelEntry
from videomoments_dagster.redis_connection import reaching
from videomoments_dagster.settings import Settings

Role = Literal["speech", "generation", "refinement", "scoring"]
KEYS = "model:config:_keys"
_PREFERRED: dict[Role, str] = {
    "speech": "parakeet",
    "generation": "qwen3_vl_fp8",
    "refinement": "qwen3_vl_fp8",
    "scoring": "qwen3_vl_fp8",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the clock check found for the entry of this `fingerprint`. Times are seconds, `checked_at` is UTC."""

    fingerprint: str
    trusted: bool
    reason: str
    offset_seconds: float | None
    drift_seconds_an_hour: float | None
    latency_seconds: float
    checked_at: str


class ModelRegistry:
    """Entries by key; without a client the code's own, to read. Raises ServiceUnavailable when Redis is away."""

    def __init__(self, client: "redis.Redis | None", settings: Settings) -> None:
        self._client, self._settings = client, settings

    @property
    def _redis(self) -> "redis.Redis":
        if self._client is None:
            raise ServiceUnavailable("The model registry is in Redis, and no platform runs here.")
        return self._client

    def seed(self) -> None:
        """Write the defaults when the registry is empty. Safe to repeat; an edited registry is left as it is."""
        with reaching(self._redis):
            if self._redis.exists(KEYS):
                return
            pipe = self._redis.pipeline()
            for key, entry in DEFAULTS.items():
                pipe.hsetnx(_name(key), "kind", entry.kind)
                for field, text in _texts(entry).items():
                    pipe.hsetnx(_name(key), field, text)
            pipe.sadd(KEYS, *DEFAULTS)
            pipe.execute()

    def entries(self) -> list[ModelEntry]:
        """Every entry as it is used, sorted by key. One whose hash was broken by hand is the default, or left out."""
        self.seed()
        with reaching(self._redis):
            stored_keys: Any = self._redis.smembers(KEYS)
            keys: list[str] = sorted({*stored_keys, *DEFAULTS})
            pipe = self._redis.pipeline()
            for key in keys:
                pipe.hgetall(_name(key))
            stored = pipe.execute()
        found = []
        for key, fields in zip(keys, stored, strict=True):
            try:
                found.append(self._effective(key, fields))
            except (InvalidConfig, NotFound):
                if key in DEFAULTS:
                    found.append(DEFAULTS[key].with_settings(self._settings))
        return found

    def get(self, key: str) -> ModelEntry:
        """The entry as it is used. Raises NotFound, and InvalidConfig when its hash was broken by hand."""
        if (key.startswith(BUILTIN_PREFIX) and key in DEFAULTS) or self._client is None:
            return self._effective(key, {})
        with reaching(self._redis):
            fields: Any = self._redis.hgetall(_name(key))
        return self._effective(key, fields)

    def change(self, key: str, fields: Mapping[str, Any]) -> ModelEntry:
        """Set `fields` of an entry, or make a new one. Raises InvalidConfig naming the field, and changes nothing."""
        if key.startswith(BUILTIN_PREFIX):
            raise InvalidConfig(
                f"{key} runs in this process and has no settings.", hint="Add an entry of another name."
            )
        self.seed()
        with reaching(self._redis):
            while True:
                with self._redis.pipeline() as pipe:
                    pipe.watch(_name(key), KEYS)
                    old: Any = pipe.hgetall(_name(key))
                    entry = ModelEntry.parse(key, {**_default_fields(key), **old, **fields})
                    if entry.fallback and entry.fallback not in DEFAULTS and not pipe.sismember(KEYS, entry.fallback):
                        raise InvalidConfig(f"Model {key!r}: fallback: there is no model {entry.fallback!r}.")
                    pipe.multi()
                    pipe.delete(_name(key))
                    pipe.hset(_name(key), mapping=_texts(entry))
                    pipe.sadd(KEYS, key)
                    try:
                        pipe.execute()
                    except redis.WatchError:
                        continue
                return entry.with_settings(self._settings)

    def remove(self, key: str) -> None:
        """Forget an entry; one of the code's goes back to its defaults. Raises NotFound."""
        with reaching(self._redis):
            known = self._redis.delete(_name(key), _verdict_name(key))
            if key not in DEFAULTS:
                self._redis.srem(KEYS, key)
        if not known and key not in DEFAULTS:
            raise NotFound(f"There is no model {key[:64]!r}.", hint="`videomoments models list` shows them.")

    def default(self, role: Role) -> str:
        """The model for a role that neither request nor settings name: the preferred one where it is configured."""
        asked = {
            "speech": self._settings.speech_model,
            "generation": self._settings.generation_model,
            "refinement": self._settings.refinement_model,
            "scoring": self._settings.scoring_model,
        }[role]
        if asked:
            return asked
        preferred = _PREFERRED[role]
        if self.get(preferred).is_configured:
            return preferred
        return "builtin_speech" if role == "speech" else "builtin_moments"

    def verdict(self, entry: ModelEntry) -> Verdict | None:
        """What the clock check last found for this very entry; None when it was never checked, or changed since."""
        with reaching(self._redis):
            text: Any = self._redis.get(_verdict_name(entry.key))
        if not text:
            return None
        try:
            verdict = Verdict(**json.loads(text))
        except (ValueError, TypeError):
            return None
        return verdict if verdict.fingerprint == entry.fingerprint else None

    def record_verdict(self, key: str, verdict: Verdict) -> None:
        with reaching(self._redis):
            self._redis.set(_verdict_name(key), json.dumps(asdict(verdict)))

    def _effective(self, key: str, fields: Mapping[str, str]) -> ModelEntry:
        if not fields and key not in DEFAULTS:
            known = ", ".join(sorted(DEFAULTS))
            raise NotFound(
                f"There is no model {key[:64]!r}.", hint=f"`videomoments models list` shows them; built in: {known}."
            )
        return ModelEntry.parse(key, {**_default_fields(key), **fields}).with_settings(self._settings)


def _name(key: str) -> str:
    return f"model:config:{key}"


def _verdict_name(key: str) -> str:
    return f"model:verdict:{key}"


def _default_fields(key: str) -> dict[str, Any]:
    default = DEFAULTS.get(key)
    return default.model_dump(exclude={"key"}) if default else {}


def _texts(entry: ModelEntry) -> dict[Any, Any]:
    """Every field as the hash holds it. Booleans are true and false; what is unset is the empty text."""
    values = entry.model_dump(exclude={"key"})
    return {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }
