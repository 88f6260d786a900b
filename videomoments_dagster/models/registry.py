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
        """Every entry as it is used, sorted by key, but for those that `faults` tells of."""
        return [entry for entry in self._all().values() if isinstance(entry, ModelEntry)]

    def faults(self) -> dict[str, str]:
        """What is wrong with entries whose hash was broken by hand, by key. They can't be used until they are set."""
        return {key: error.message for key, error in self._all().items() if isinstance(error, InvalidConfig)}

    def _all(self) -> dict[str, ModelEntry | InvalidConfig]:
        self.seed()
        with reaching(self._redis):
            stored_keys: Any = self._redis.smembers(KEYS)
            keys: list[str] = sorted({*stored_keys, *DEFAULTS})
            pipe = self._redis.pipeline()
            for key in keys:
                pipe.hgetall(_name(key))
            stored = pipe.execute()
        found: dict[str, ModelEntry | InvalidConfig] = {}
        for key, fields in zip(keys, stored, strict=True):
            try:
                found[key] = self._effective(key, fields)
            except InvalidConfig as error:
                found[key] = error
            except NotFound:  # its hash expired or was deleted by hand
                continue
        return found

    def get(self, key: str) -> ModelEntry:
        """The entry as it is used. Raises NotFound, and InvalidConfig when its hash was broken by hand."""
        if (key.startswith(BUILTIN_PREFIX) and key in DEFAULTS) or self._client is None:
            return self._effective(key, {})
        with reaching(self._redis):
            fields: Any = self._redis.hgetall(_name(key))
        return self._effective(key, fields)

    def change(self, key: str, fields: Mapping[str, Any], *, others: Literal["keep", "reset"] = "keep") -> ModelEntry:
        """Set `fields` of an entry, or make a new one; its `others` stay, or go back to their defaults. Raises
        InvalidConfig naming the field, and changes nothing."""
        if key.startswith(BUILTIN_PREFIX):
            raise InvalidConfig(
                f"{key} runs in this process and has no settings.", hint="Add an entry of another name."
            )
        self.seed()
        with reaching(self._redis):
            while True:
                with self._redis.pipeline() as pipe:
                    pipe.watch(_name(key), KEYS)
                    old: Any = pipe.hgetall(_name(key)) if others == "keep" else {}
                    entry = ModelEntry.parse(key, {**_default_fields(key), **old, **fields})
                    self._require_fallback(entry)
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
        """Forget an entry; one of the code's goes back to its defaults. Raises NotFound, and InvalidConfig for one that
        another falls back to."""
        if key.startswith(BUILTIN_PREFIX):
            raise InvalidConfig(f"{key} runs in this process and can't be removed.", hint="Nothing has to use it.")
        users = [entry.key for entry in self.entries() if entry.fallback == key]
        if users and key not in DEFAULTS:
            raise InvalidConfig(f"Model {key!r} is the fallback of {', '.join(users)}.", hint="Change theirs first.")
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
        try:
            if self.get(preferred).is_configured:
                return preferred
        except InvalidConfig:  # broken by hand: its use says so, where another model's would hide it
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

    def _require_fallback(self, entry: ModelEntry) -> None:
        if not entry.fallback:
            return
        try:
            other = self.get(entry.fallback)
        except NotFound:
            raise InvalidConfig(f"Model {entry.key!r}: fallback: there is no model {entry.fallback!r}.") from None
        if other.kind != entry.kind:
            raise InvalidConfig(
                f"Model {entry.key!r}: fallback: {other.key} is of kind {other.kind}, not {entry.kind}."
            )

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
