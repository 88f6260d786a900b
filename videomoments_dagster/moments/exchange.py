"""One question to a model and its raw answer: what `replay` derives from again, and what a person can read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Exchange:
    """`about`: a window's number or a moment's identifier. `question` is the text as sent, without media.

    Token counts are the server's own, None when it does not tell; `seconds` is wall time with retries.
    """

    about: str
    question: str
    answer: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Exchange":
        return cls(**value)
