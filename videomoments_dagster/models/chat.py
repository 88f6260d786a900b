"""Chat models over `/v1/chat/completions`: a question with text and media in, the model's words out.

Any OpenAI-compatible server will do (vLLM, Ollama, llama.cpp): what one refuses is left out (dialect.py), and
thinking is cut off the answer. What the words mean is for `moments`.
"""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from videomoments_dagster.errors import ModelAnswerInvalid
from videomoments_dagster.models.calls import Observe, observed, unobserved
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.protocols import Sampling
from videomoments_dagster.models.server import ModelServer, NotJson, RequestRefused, storable

_ENDPOINT, _MODELS = "/chat/completions", "/models"
_ASKS = 2
_UNDERSTANDABLE, _NOT_FOUND = {400, 422}, 404
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT_BEFORE = re.compile(r".*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT_AFTER = re.compile(r"<think(?:ing)?>.*", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class VideoUrl:
    """A video for the model to watch: an http(s) address that its server can reach, or a `data:` URL."""

    url: str

    def parts(self) -> list[dict[str, Any]]:
        return [{"type": "video_url", "video_url": {"url": self.url}}]


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A picture, and what is said before it. The address may be a `data:` URL."""

    url: str
    caption: str = ""

    def parts(self) -> list[dict[str, Any]]:
        said = [{"type": "text", "text": self.caption}] if self.caption else []
        return [*said, {"type": "image_url", "image_url": {"url": self.url}}]


Media = VideoUrl | ImageUrl


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The model's words without its thinking. Tokens are summed over the asks that were answered, None when the
    server does not tell; `seconds` is wall time with retries."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


class ChatClient:
    """Asks one chat model, and tells `observe` of each question. Threads may share it."""

    def __init__(self, entry: ModelEntry, server: ModelServer, observe: Observe = unobserved) -> None:
        self.entry, self._server, self._observe = entry, server, observe
        self._path = entry.endpoint or f"/v1{_ENDPOINT}"

    def complete(
        self,
        system: str,
        user: str,
        *,
        media: Sequence[Media] = (),
        schema: dict[str, Any] | None = None,
        sampling: Sampling,
    ) -> ChatAnswer:
        """One answer. `schema` asks for JSON of that shape as far as the server can; the answer may still be other.

        What `sampling` leaves open is the entry's. Raises what ModelServer.post raises, and ModelAnswerInvalid when
        the answer is empty twice, or max_tokens went into thinking.
        """
        began = time.monotonic()
        content = (
            [*(part for item in media for part in item.parts()), {"type": "text", "text": user}] if media else user
        )
        values = self._values(sampling)
        key = self.entry.key
        with observed(self.entry, self._observe) as call:
            for _ in range(_ASKS):
                answer = self._ask(system, content, schema, values)
                call.prompt_tokens = _added(call.prompt_tokens, answer, "prompt_tokens")
                call.completion_tokens = _added(call.completion_tokens, answer, "completion_tokens")
                text, finish_reason = _words(answer)
                if text:
                    seconds = round(time.monotonic() - began, 3)
                    return ChatAnswer(text, finish_reason, call.prompt_tokens, call.completion_tokens, seconds)
                if finish_reason == "length":
                    raise ModelAnswerInvalid(
                        f"{key} spent all {values.get('max_tokens')} tokens of max_tokens thinking.",
                        hint=f"Raise it: `videomoments models set {key} max_tokens=...`, or turn thinking off.",
                    )
            raise ModelAnswerInvalid(f"{key} at {self._server.where} answers without words, {_ASKS} times.")

    def _ask(self, system: str, user: Any, schema: dict[str, Any] | None, values: dict[str, Any]) -> Any:
        """The server's answer, once the request is put as it understands it."""
        dialect, name = self._server.dialect, self._model_name()
        refused_name = ""
        while True:  # a dialect can learn only so much
            body = ({"model": name} if name else {}) | dialect.request(values, system, user, schema)
            try:
                return self._server.post(self._path, json=body)
            except RequestRefused as refused:
                if refused.answer_status == _NOT_FOUND and name and not self.entry.model_name and not refused_name:
                    refused_name, name = name, self._model_name(but=name)
                    if name in ("", refused_name):
                        raise
                    continue
                learned = dialect.learn(refused.explanation, body) if refused.answer_status in _UNDERSTANDABLE else None
                if learned is None:
                    raise
                dialect = learned

    def _values(self, sampling: Sampling) -> dict[str, Any]:
        entry = self.entry
        wanted = {
            "temperature": entry.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": entry.top_p if sampling.top_p is None else sampling.top_p,
            "top_k": entry.top_k if sampling.top_k is None else sampling.top_k,
            "max_tokens": entry.max_tokens if sampling.max_tokens is None else sampling.max_tokens,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def _model_name(self, but: str | None = None) -> str:
        """The entry's, or the first that the server lists, which is kept until it is `but` the one that is no longer
        there. Empty when it lists none."""
        if self.entry.model_name:
            return self.entry.model_name
        dialect = self._server.dialect
        if dialect.model_name in (None, but):
            dialect.model_name = None
            with suppress(RequestRefused, ModelAnswerInvalid, NotJson):  # not every server has a list
                dialect.model_name = _first_model(self._server.get(self._path.removesuffix(_ENDPOINT) + _MODELS))
        return dialect.model_name or ""


def _first_model(listed: Any) -> str:
    """Of OpenAI's `{data: [{id}]}`, or `{models: [{name}]}` as Ollama and llama.cpp list them too."""
    models = (listed.get("data") or listed.get("models")) if isinstance(listed, dict) else listed
    first = models[0] if isinstance(models, list) and models else None
    if isinstance(first, dict):
        first = first.get("id") or first.get("name") or first.get("model")
    return first if isinstance(first, str) else ""


def _words(answer: Any) -> tuple[str, str]:
    """The text without thinking, and the finish reason; both empty when the answer has another shape."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return "", ""
    finish_reason = str(choice.get("finish_reason") or "")
    text = _without_thinking(_text(message.get("content")))
    if not text and finish_reason != "length":
        # A reasoning parser that waits for a closing tag which never comes puts the whole answer here.
        text = _without_thinking(_text(message.get("reasoning_content") or message.get("reasoning")))
    return text, finish_reason


def _text(content: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        content = "".join(part for part in parts if isinstance(part, str))
    return storable(content) if isinstance(content, str) else ""


def _without_thinking(text: str) -> str:
    """Without `<think>` blocks; some templates hold the opening tag back, and a limit may cut the closing one."""
    text = _THOUGHT_BEFORE.sub("", _THOUGHT.sub("", text))
    return _THOUGHT_AFTER.sub("", text).strip()


def _added(so_far: int | None, answer: Any, name: str) -> int | None:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    value = usage.get(name) if isinstance(usage, dict) else None
    try:
        return int(value) + (so_far or 0)  # pyright: ignore[reportArgumentType]  # numbers come as texts too
    except (TypeError, ValueError):
        return so_far
