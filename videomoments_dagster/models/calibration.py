"""The clock check: does a model give true times? Asked by `videomoments models check`, and before a model's first use.

Known bugs shift times: recognizers that work in chunks drift (NVIDIA-NeMo/Speech#16072: 2.36 s an hour), vision servers
mistake the frame rate (vllm-project/vllm#26902: minute 14 of a three-minute clip). How a clock is judged is told in
calibration_speech.py, calibration_vision.py and calibration_fit.py.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from videomoments_dagster.errors import ClockUntrusted, ModelAnswerInvalid
from videomoments_dagster.models.calibration_fit import verdict
from videomoments_dagster.models.chat import ChatClient
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.explanations import beginning
from videomoments_dagster.models.protocols import Sampling
from videomoments_dagster.models.registry import ModelRegistry, Verdict
from videomoments_dagster.models.server import ModelServer
from videomoments_dagster.models.speech import RemoteSpeech
from videomoments_dagster.moments import fields, replies
from videomoments_dagster.processes import Progress
from videomoments_dagster.settings import Settings

_SYSTEM = "You answer with JSON only."
_COUNTING = 'How many of these are animals: horse, table, cow, lamp, goat? Answer with {"animals": number}.'
_SCHEMA = {"type": "object", "properties": {"animals": {"type": "integer"}}, "required": ["animals"]}
_ANIMALS = 3


def ensure_trusted(
    registry: ModelRegistry,
    entry: ModelEntry,
    settings: Settings,
    run_check: Callable[[], Verdict],
    warn: Callable[[str], None],
) -> bool:
    """Whether the times of `entry` may be used. Before its first use it is checked, and the verdict recorded.

    Builtin models, and chat models that see no video, have no clock to check. An untrusted clock raises
    ClockUntrusted; with `clock_check=warn` it is told to `warn`, and the answer is no. A check that can't be carried
    out raises what `check` raises, and records nothing.
    """
    gives_times = entry.kind == "speech" or entry.supports_video
    if settings.clock_check == "off" or entry.is_builtin or not gives_times:
        return True
    found = registry.verdict(entry)
    if found is None:
        found = run_check()
        registry.record_verdict(entry.key, found)
    if found.trusted:
        return True
    told = f"The clock of {entry.key} is not trusted: {found.reason} It was checked at {found.checked_at}."
    if settings.clock_check == "refuse":
        raise ClockUntrusted(told)
    warn(told)
    return False


def check(
    entry: ModelEntry,
    settings: Settings,
    *,
    directory: Path | None = None,
    publish: Callable[[Path], str] | None = None,
    on_progress: Progress | None = None,
) -> Verdict:
    """Ask the model about a clip of which we know every time; a chat model that sees no video, one small question.

    The clips are made in `directory` (a temporary one when None) and found there again. `publish` gives a file an
    address that the model's server can fetch; without it the clip is sent as data. Raises ModelError when the model
    does not answer, or says nothing that its clock can be judged by.
    """
    if directory is None:
        with TemporaryDirectory(prefix="videomoments-") as temporary:
            return check(entry, settings, directory=Path(temporary), publish=publish, on_progress=on_progress)
    if entry.is_builtin:
        return _check_builtin(entry, directory, on_progress)
    server = ModelServer(entry, settings)
    try:
        if entry.kind == "speech":
            from videomoments_dagster.models.calibration_speech import check_speech  # with numpy, as the other

            speech = RemoteSpeech(entry, server)
            return check_speech(
                entry, lambda audio: speech.transcribe_unchecked(audio, on_progress=on_progress), directory
            )
        chat = ChatClient(entry, server)
        if not entry.supports_video:
            return _check_text(entry, chat)
        from videomoments_dagster.models.calibration_vision import check_vision

        return check_vision(entry, chat, directory, publish)
    finally:
        server.close()


def _check_builtin(entry: ModelEntry, directory: Path, on_progress: Progress | None) -> Verdict:
    if entry.kind == "chat":
        return verdict(entry, True, "it runs in this process, and gives no times of its own", 0.0)
    from videomoments_dagster.models.builtin.speech import BuiltinSpeech
    from videomoments_dagster.models.calibration_speech import check_speech

    speech = BuiltinSpeech()
    return check_speech(entry, lambda audio: speech.transcribe(audio, on_progress=on_progress).transcript, directory)


def _check_text(entry: ModelEntry, chat: ChatClient) -> Verdict:
    """No times of its are ever used: only whether it answers rightly in JSON, and how fast."""
    answer = chat.complete(_SYSTEM, _COUNTING, schema=_SCHEMA, sampling=Sampling(temperature=0.0))
    said = replies.read(answer.text, lambda value: isinstance(value, dict))
    if not isinstance(said, dict) or fields.whole_numbers(said.get("animals")) != [_ANIMALS]:
        raise ModelAnswerInvalid(f"{entry.key} can't count three animals in JSON: {beginning(answer.text)!r}.")
    return verdict(entry, True, "it answers rightly, and gives no times of its own", answer.seconds)
