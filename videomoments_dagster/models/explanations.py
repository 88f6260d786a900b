"""What a model server says when it refuses: its words out of the shapes they come in, without what must stay secret."""

import json
from typing import Any

from videomoments_dagster.redaction import redacted


def explanation(content: bytes, secret: str = "") -> str:
    """The message of an error's body (OpenAI's, FastAPI's and Ollama's shapes, or plain text), redacted.

    Empty when a page answers: a proxy's HTML says no more than the status.
    """
    text = content.decode(errors="replace").strip()
    try:
        text = _message(json.loads(text), text)
    except (ValueError, RecursionError):
        if text.startswith("<"):
            return ""
    return redacted(text, secret)


def beginning(text: str, characters: int = 120) -> str:
    """How a model's words begin, on one line and redacted: for messages about answers that make no sense."""
    return redacted(" ".join(text[: 10 * characters].split()))[:characters]


def _message(body: Any, text: str) -> str:
    if not isinstance(body, dict):
        return text
    error = body.get("error") or body
    if not isinstance(error, dict):
        return str(error)
    said = error.get("message") or error.get("detail") or text
    if isinstance(said, list):
        return "; ".join(_field_fault(fault) for fault in said)
    parameter = error.get("param")
    return f"{said} ({parameter})" if parameter and str(parameter) not in str(said) else str(said)


def _field_fault(fault: Any) -> str:
    """One entry of FastAPI's `detail`, without the input that it quotes."""
    if not isinstance(fault, dict):
        return str(fault)
    return f"{'.'.join(map(str, fault.get('loc') or ()))}: {fault.get('msg', '')}"
