"""Which model a key names. Imports a model's module only when that model is asked for."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.models.protocols import MomentFinder, MomentRefiner, MomentScorer, SpeechRecognizer

_Model = TypeVar("_Model")


def speech(key: str) -> SpeechRecognizer:
    """The recognizer named `key`. Raises InvalidConfig for a key that names none; so do the others."""
    return _model(key, "speech recognizer", {"builtin_speech": _builtin_speech})


def finder(key: str) -> MomentFinder:
    return _model(key, "finder", {"builtin_moments": _builtin_moments})


def refiner(key: str) -> MomentRefiner:
    return _model(key, "refiner", {"builtin_moments": _builtin_moments})


def scorer(key: str) -> MomentScorer:
    return _model(key, "scorer", {"builtin_moments": _builtin_moments})


def _model(key: str, role: str, known: Mapping[str, Callable[[], _Model]]) -> _Model:
    if key not in known:
        raise InvalidConfig(f"No {role} is called {key[:100]!r}.", hint=f"Known: {', '.join(sorted(known))}.")
    return known[key]()


def _builtin_moments():
    from videomoments_dagster.models.builtin.moments import BuiltinMoments

    return BuiltinMoments()


def _builtin_speech():
    from videomoments_dagster.models.builtin.speech import BuiltinSpeech

    return BuiltinSpeech()
