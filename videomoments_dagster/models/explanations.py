"""What a model server says when it refuses: its words out of the shapes they come in, without what must stay secret."""

import json
import re
from typing import Any

_DATA_URL = re.compile(r"(data:[\w/+.-]*)[;,][^\s\"'<>]*", re.IGNORECASE)
_URL_QUERY = re.compile(r"(https?:[^\s\"'?<>]+)\?[^\s\"'<>]*", re.IGNORECASE)
_QUERY = re.compile(r"(\?|%3F)[\w.~%+-]+?(=|%3D)[^\s\"'<>]*", re.IGNORECASE)  # of a path, a host, an escaped URL
_SIGNED = re.compile(r"((?:signature|credential)(?:=|%3D))[^\s\"'<>&]*", re.IGNORECASE)
_USER = re.compile(r"(https?:(?:\\?/){2})[^\s/@\"']+@", re.IGNORECASE)


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


def redacted(text: str, secret: str = "") -> str:
    """Servers and models quote what they were sent: signed URLs whole or in part, media, even keys."""
    text = text.replace(secret, "***") if secret else text
    text = _QUERY.sub("?***", _URL_QUERY.sub(r"\1?***", _DATA_URL.sub(r"\1,***", text)))
    return _USER.sub(r"\1", _SIGNED.sub(r"\1***", text))


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
