"""What one chat server was found not to understand, learned from its refusals and left out from then on.

Servers that call themselves OpenAI-compatible differ in `response_format`, sampling parameters and the system role.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

_FORMATS = ("json_schema", "json_object", "")  # each is understood by more servers than the one before
_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")
_FORMAT_NAMED = re.compile(r"response_format|json_schema|json_object")
_FORMAT_MEANT = re.compile(r"schema|grammar|guided|structured|json mode", re.IGNORECASE)
_NOT_KNOWN = re.compile(
    r"un(known|recogni[sz]ed|supported|expected)|not (supported|permitted|allowed|recogni[sz]ed)|extra_?\s?(forbidden"
    r"|inputs|fields)|does(n't| not) support|invalid (parameter|argument|field)|additional propert",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context (length|window)|too (large|long|many)|maximum", re.IGNORECASE)
_NO_SYSTEM = re.compile(r"system (role|message|prompt)s?\b.*not supported|not support\b.*system", re.IGNORECASE)
_SAYS_NOTHING = re.compile(
    r"\W*(\d+\W*)?(bad request|unprocessable (entity|content)|validation error)?\W*", re.IGNORECASE
)


@dataclass(slots=True)
class Dialect:
    """Threads may share it: what is learned twice changes nothing. `model_name` is the server's own, once asked."""

    dropped: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    has_system_role: bool = True
    model_name: str | None = None
    _format: int = 0

    def request(
        self, sampling: dict[str, Any], system: str, user: Any, schema: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The body of a request as this server understands it. `user` is a text, or the parts of one."""
        if self.has_system_role:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        else:
            whole = f"{system}\n\n{user}" if isinstance(user, str) else [{"type": "text", "text": system}, *user]
            messages = [{"role": "user", "content": whole}]
        kept = {self.renamed.get(name, name): value for name, value in sampling.items() if name not in self.dropped}
        kind = _FORMATS[self._format] if schema is not None else ""
        body: dict[str, Any] = {"messages": messages, **kept}
        if kind == "json_schema":
            named = {"name": "answer", "schema": schema, "strict": True}
            body["response_format"] = {"type": kind, "json_schema": named}
        elif kind:
            body["response_format"] = {"type": kind}
        return body

    def learn(self, explanation: str, body: dict[str, Any]) -> "Dialect | None":
        """What to put the same question in next, after `body` was refused with this explanation; None: nothing helps.

        That is this dialect, which has learned for good, or another for this question only when it is a mere guess.
        What counts is what was refused: others may have learned from it in the meantime.
        """
        form = str(body.get("response_format", {}).get("type", ""))
        named = _FORMAT_NAMED.search(explanation) if form else None
        parameter = _first_named(explanation, body)
        if parameter and (named is None or explanation.index(parameter) < named.start()):
            if "max_completion_tokens" in explanation and parameter == "max_tokens":
                self.renamed[parameter] = "max_completion_tokens"
            else:
                self.dropped.add(parameter)
            return self
        if body["messages"][0]["role"] == "system" and _NO_SYSTEM.search(explanation):
            self.has_system_role = False
            return self
        if not form:
            return None
        simpler = _FORMATS.index(form) + 1
        if named or _FORMAT_MEANT.search(explanation):
            self._format = max(self._format, simpler)
            return self
        return replace(self, _format=simpler) if _SAYS_NOTHING.fullmatch(explanation) else None


def _first_named(explanation: str, body: dict[str, Any]) -> str:
    """The sampling parameter that is said to be unknown; none when it is the value that is wrong, or the length."""
    if not _NOT_KNOWN.search(explanation) or _TOO_LONG.search(explanation):
        return ""
    sent = "|".join(name for name in _SAMPLING if name in body)
    match = re.search(rf"\b({sent})\b", explanation) if sent else None
    return match[1] if match else ""
