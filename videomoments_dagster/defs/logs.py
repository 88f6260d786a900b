"""Dagster's logging made ours. The only place that touches its insides: Dagster 1.13 takes formats by name, and prints
each run's and tick's messages by a console of its own.

`python -m videomoments_dagster.defs.logs NAME MODULE ARGUMENTS...` runs a program of Dagster's as the process NAME.
"""

import logging
import runpy
import sys
import traceback
from typing import Any

import dagster._loggers
import dagster._utils.log
from dagster._core.definitions import instigation_logger
from dagster_shared.error import SerializableErrorInfo

from videomoments_dagster import logs
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG
from videomoments_dagster.redaction import keep_environment_secret, redacted
from videomoments_dagster.settings import get_settings

_NOT_DONE = "Dependencies for step "
_as_dagster = SerializableErrorInfo.from_traceback.__func__  # pyright: ignore[reportFunctionMemberAccess]


def configure(process: str) -> None:
    """`logs.configure` for a process that runs Dagster's code, before that sets up its own logging."""
    logs.configure(process, get_settings().log_format)
    dagster._utils.log.configure_loggers = _set_level  # pyright: ignore[reportAttributeAccessIssue]
    for module in (dagster._loggers, instigation_logger):
        module.create_console_logger = _console  # pyright: ignore[reportAttributeAccessIssue]


def redact_errors() -> None:
    """What Dagster keeps of errors, in runs and ticks, without secrets: messages, lines of code and causes."""
    keep_environment_secret()
    SerializableErrorInfo.from_traceback = classmethod(_without_secrets)  # pyright: ignore[reportAttributeAccessIssue]


def _set_level(handler: str = "default", formatter: str = "", log_level: str | int = "INFO") -> None:
    logging.getLogger("dagster").setLevel(log_level)


def _console(name: str, level: str | int) -> logging.Logger:
    """A logger of its own, as Dagster wants it: it sets levels and handlers of those that have names."""
    console = logging.Logger(name, level)
    console.parent = logging.getLogger()
    console.addFilter(_in_our_words)
    return console


def _in_our_words(record: logging.LogRecord) -> bool:
    """The record of a run with our names for what it is about; of a tick's there is nothing to change. Left out are a
    failure with a name, which defs/observing.py has logged, and the list of all that is not done after it."""
    about: Any = getattr(record, "dagster_meta", None)
    if about is None or "job_tags" not in about:
        return True
    record.msg, record.args = about["orig_message"], ()
    tags = about["job_tags"]
    told = {"step": about["step_key"], "run_id": about["run_id"]}
    told |= {"request_id": tags.get(REQUEST_TAG), "video": tags.get(PARTITION_TAG)}
    vars(record).update({name: value for name, value in told.items() if value})
    event = about["dagster_event"]
    data = event.event_specific_data if event else None
    if getattr(data, "user_failure_data", None) or about["orig_message"].startswith(_NOT_DONE):
        return False
    if (error := getattr(data, "error", None)) and not getattr(data, "first_step_failure_event", None):
        record.exception = error.to_string()
    return True


def _without_secrets(cls: type[SerializableErrorInfo], error: traceback.TracebackException) -> SerializableErrorInfo:
    made = _as_dagster(cls, error)  # which comes back here for its cause and context
    return cls(
        redacted(made.message), [redacted(frame) for frame in made.stack], made.cls_name, made.cause, made.context
    )


def main() -> None:
    """As `python -m MODULE ARGUMENTS...`."""
    import uvicorn.config

    _, process, module, *arguments = sys.argv
    configure(process)
    redact_errors()
    uvicorn.config.LOGGING_CONFIG.clear()
    uvicorn.config.LOGGING_CONFIG.update({"version": 1, "disable_existing_loggers": False})
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
