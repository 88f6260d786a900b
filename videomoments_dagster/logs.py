"""The logs of every process: one JSON object a line on stderr, or text for people, without secrets.

`bound` says what is being worked on: request_id, video, run_id, stage, http_request_id. Every line within carries it;
`carried` takes it along to another thread. What Dagster logs comes here by defs/logs.py.
"""

import contextvars
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from videomoments_dagster.redaction import keep_environment_secret, redacted

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_NOTHING: Mapping[str, str] = {}
_context: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("log_context", default=_NOTHING)
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
_LONGEST_CHARACTERS = 8_000
"""Of a message, and of the end of a traceback."""


@contextmanager
def bound(**context: str | None) -> Iterator[None]:
    """Lines logged in the body carry `context` too; what is None is left as it is."""
    token = _context.set({**_context.get(), **{name: value for name, value in context.items() if value is not None}})
    try:
        yield
    finally:
        _context.reset(token)


def carried(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`function` with the context of here, wherever it is called: threads begin without one."""
    context = _context.get()

    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with bound(**context):
            return function(*args, **kwargs)

    return call


def configure(process: str, log_format: Literal["json", "text"]) -> None:
    """All logging of this process, and what ends it or one of its threads, goes to stderr by `log_format`; `process` is
    its name there. Secrets of the environment are redacted from now on."""
    keep_environment_secret()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if log_format == "json" else TextLines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each plugin it has, whenever it is loaded
    logging.captureWarnings(True)
    logging.logThreads = logging.logMultiprocessing = False  # nobody reads these
    logging.raiseExceptions = False  # a handler that fails would print the raw line
    sys.excepthook = _log_end
    threading.excepthook = _log_end_of_thread


def readable(line: str) -> str:
    """The message of a line of JSON, and its traceback; another line as it is."""
    try:
        fields = json.loads(line)
        return "\n".join(filter(None, (fields["message"], fields.get("exception"))))
    except (ValueError, TypeError, KeyError):
        return line


class _Lines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """All that a line says, redacted. Values given as `extra` stand beside the context."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "pid": os.getpid(),
            "message": redacted(_message(record))[:_LONGEST_CHARACTERS],
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        for name, value in {**_context.get(), **extra}.items():
            if isinstance(value, str):
                found[name] = redacted(value)[:_LONGEST_CHARACTERS]
            elif isinstance(value, (bool, int, float)):
                found[name] = value
        if record.exc_info and record.exc_info[0]:
            found["exception"] = redacted(self.formatException(record.exc_info))[-_LONGEST_CHARACTERS:]
        return found


def _message(record: logging.LogRecord) -> str:
    """A library's arguments may not fit its words: then these alone."""
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} (its arguments do not fit)"


class JsonLines(_Lines):
    """One JSON object a line: time (UTC), level, logger, process, pid, message, then context and extra values;
    `exception` holds a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return _ENCODER.encode(self.fields(record))


class TextLines(_Lines):
    """The same for people: what is not said in words stands at the end as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        time, level, _, process, _, message = (
            fields.pop(name) for name in ("time", "level", "logger", "process", "pid", "message")
        )
        exception = fields.pop("exception", None)
        line = f"{time} {level:<7} {process}: {message}" + "".join(f" {name}={value}" for name, value in fields.items())
        return f"{line}\n{exception}" if exception else line


def _log_end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("videomoments").critical(
        "The process ends: %s.", kind.__name__, exc_info=(kind, error, traceback)
    )


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    name = ended.thread.name if ended.thread else "?"
    exc_info = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    logging.getLogger("videomoments").error("Thread %s ends: %s.", name, ended.exc_type.__name__, exc_info=exc_info)
