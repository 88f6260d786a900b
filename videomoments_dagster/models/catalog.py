"""Which model a key names, ready to be asked; and what is used instead while one is down.

Imports a model's module only when that model is asked for. Servers, with their connections, are kept for the process.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from videomoments_dagster.errors import (
    ClockUntrusted,
    InvalidConfig,
    ModelAnswerInvalid,
    ModelError,
    ModelNotConfigured,
    ModelUnavailable,
    NotFound,
    TunnelUnavailable,
)
from videomoments_dagster.models.calls import Observe, unobserved
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.protocols import AnswerMemory, ChatModel, Sampling, SpeechRecognizer
from videomoments_dagster.models.registry import ModelRegistry, Role
from videomoments_dagster.settings import Settings

if TYPE_CHECKING:
    from videomoments_dagster.models.builtin.moments import BuiltinMoments
    from videomoments_dagster.models.builtin.speech import BuiltinSpeech
    from videomoments_dagster.models.chat import ChatClient
    from videomoments_dagster.models.server import ModelServer

_log = logging.getLogger(__name__)
_Model = TypeVar("_Model")
_Answer = TypeVar("_Answer")
_DOWN = (ModelUnavailable, TunnelUnavailable, ModelAnswerInvalid, ClockUntrusted)
"""What a fallback helps against. A refused key or host is for the operator to mend, and is not hidden."""


@dataclass(frozen=True, slots=True)
class Used(Generic[_Model, _Answer]):
    """`answer` is `model`'s; `instead_of` says which models before it failed, and how; `clock_fault` what is wrong with
    its clock, when it is used all the same."""

    model: _Model
    answer: _Answer
    instead_of: tuple[str, ...] = ()
    clock_fault: str = ""


class Models:
    """The models of one platform.

    `publish` stores a file and returns an address from which a model server can fetch it; the clock check of models
    that take videos by URL needs it. `warn` is told of untrusted clocks and fallbacks,
    `observe` of every question to a remote model.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        settings: Settings,
        *,
        publish: Callable[[Path], str] | None = None,
        warn: Callable[[str], None] = _log.warning,
        observe: Observe = unobserved,
    ) -> None:
        self.registry, self._settings = registry, settings
        self._publish, self._warn, self._observe = publish, warn, observe
        self._servers: dict[str, ModelServer] = {}
        self._chats: dict[str, tuple[ModelServer, ChatClient]] = {}

    def wants_clips(self, refinement_model: str | None) -> bool:
        """Whether clips belong to a run with this refinement model (None: the default's): they are what it watches.
        The builtin one is for those without models, who want clips to look at. Raises NotFound, InvalidConfig."""
        entry = self.registry.get(refinement_model or self.registry.default("refinement"))
        return entry.supports_video or entry.is_builtin

    def speech(self, asked: str | None, use: Callable[[SpeechRecognizer], _Answer]) -> Used[SpeechRecognizer, _Answer]:
        """`use` called with the recognizer `asked` for (None: the default's), or with its fallback while it is down.

        Raises NotFound and InvalidConfig for a key that names no recognizer, and ModelError when nothing is left to
        fall back to.
        """
        return self._first("speech", asked, self.recognizer, use)

    def chat(
        self,
        role: Role,
        asked: str | None,
        sampling: Sampling,
        use: Callable[[ChatModel], _Answer],
        memory: AnswerMemory | None = None,
    ) -> Used[ChatModel, _Answer]:
        """The same for generation, refinement and scoring. Refinement needs a model whose clock is right. What `memory`
        has answers to is not asked again."""
        clock = role == "refinement"
        return self._first(
            role, asked, lambda entry: self.language_model(entry, sampling, clock=clock, memory=memory), use
        )

    def recognizer(self, entry: ModelEntry) -> SpeechRecognizer:
        """Raises InvalidConfig when it is no speech model, and ClockUntrusted."""
        if not entry.is_configured:
            raise ModelNotConfigured(f"Model {entry.key!r} has neither ssh_host nor base_url.")
        if entry.kind != "speech":
            raise _wrong_kind(entry, "a speech recognizer")
        if entry.is_builtin:
            return builtin_speech()
        self._check_clock(entry)
        from videomoments_dagster.models.speech import RemoteSpeech

        return RemoteSpeech(entry, self._server(entry), self._observe)

    def language_model(
        self, entry: ModelEntry, sampling: Sampling, *, clock: bool = False, memory: AnswerMemory | None = None
    ) -> ChatModel:
        """Raises InvalidConfig when it is no chat model; with `clock` (its view of a video's time matters) also
        ClockUntrusted."""
        if not entry.is_configured:
            raise ModelNotConfigured(f"Model {entry.key!r} has neither ssh_host nor base_url.")
        if entry.kind != "chat":
            raise _wrong_kind(entry, "a language model")
        if entry.is_builtin:
            return builtin_moments()
        trusted = self._check_clock(entry) if clock and entry.supports_video else True
        from videomoments_dagster.models.language import LanguageModel

        return LanguageModel(entry, self._chat(entry), sampling, times_trusted=trusted, memory=memory)

    def _server(self, entry: ModelEntry) -> "ModelServer":
        """Kept for the process until the entry is edited."""
        known = self._servers.get(entry.key)
        if known and known.entry == entry:
            return known
        if known:
            known.close()
        from videomoments_dagster.models.server import ModelServer

        self._servers[entry.key] = server = ModelServer(entry, self._settings)
        return server

    def _chat(self, entry: ModelEntry) -> "ChatClient":
        """Kept with its server: it remembers what that one refuses."""
        server = self._server(entry)
        known = self._chats.get(entry.key)
        if known and known[0] is server:
            return known[1]
        from videomoments_dagster.models.chat import ChatClient

        self._chats[entry.key] = server, ChatClient(entry, server, self._observe)
        return self._chats[entry.key][1]

    def _check_clock(self, entry: ModelEntry) -> bool:
        """Whether the model's times may be used. Checks a model before its first use; raises ClockUntrusted."""
        from videomoments_dagster.models.calibration import check, ensure_trusted

        return ensure_trusted(
            self.registry,
            entry,
            self._settings,
            lambda: check(entry, self._settings, publish=self._publish),
            self._warn,
        )

    def _first(
        self,
        role: Role,
        asked: str | None,
        make: Callable[[ModelEntry], _Model],
        use: Callable[[_Model], _Answer],
    ) -> Used[_Model, _Answer]:
        key = asked or self.registry.default(role)
        failed: dict[str, ModelError] = {}
        asked_for: set[str] = set()
        while True:
            asked_for.add(key)
            entry = None
            try:
                entry = self.registry.get(key)
                model = make(entry)
                answer = use(model)
            except (ModelNotConfigured, NotFound, InvalidConfig) as error:
                if not failed:
                    raise
                self._warn(f"{key} can't be fallen back to: {error.message}")
            except _DOWN as error:
                failed[key] = error
                self._warn(f"{key} is not used: {error.message}")
            else:
                told = tuple(f"{was}: {error.message}" for was, error in failed.items())
                return Used(model, answer, told, self._clock_fault(entry))
            if entry is None or not entry.fallback or entry.fallback in asked_for:
                raise next(iter(failed.values()))  # what is wrong is that the first one is down
            key = entry.fallback

    def _clock_fault(self, entry: ModelEntry) -> str:
        verdict = None if entry.is_builtin else self.registry.verdict(entry)
        return verdict.reason if verdict and not verdict.trusted else ""


def builtin_speech() -> "BuiltinSpeech":
    from videomoments_dagster.models.builtin.speech import BuiltinSpeech

    return BuiltinSpeech()


def builtin_moments() -> "BuiltinMoments":
    from videomoments_dagster.models.builtin.moments import BuiltinMoments

    return BuiltinMoments()


def _wrong_kind(entry: ModelEntry, role: str) -> InvalidConfig:
    return InvalidConfig(
        f"Model {entry.key!r} is not {role}.", hint="`videomoments models list` says of what kind each is."
    )
