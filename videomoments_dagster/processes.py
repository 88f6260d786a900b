"""Child processes: the one place that runs risky native code (FFmpeg's libraries, the recognizer) outside ours.

A child is `python -m MODULE`. It reads one JSON request from stdin and writes JSON lines to stdout: any number of
`{"progress": 0..1}`, then `{"result": ...}` or `{"error": {class, message, hint}}`. It runs in its own process group
with limits on time, memory and CPU; the whole group is killed when we leave, and the child when we are killed (Linux).
Long-lived servers are not started here but in `stack/`.
"""

import ctypes
import inspect
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from videomoments_dagster import errors
from videomoments_dagster.errors import MediaCrashed, MediaKilled, MediaTimeout, VideoMomentsError
from videomoments_dagster.redaction import redacted

Progress = Callable[[float], None]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SHOWN_CHARACTERS = 300
_log = logging.getLogger("videomoments.processes")


def run_child(
    module: str,
    request: dict[str, Any],
    *,
    timeout_seconds: float,
    memory_bytes: int,
    on_progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run `python -m module` on `request` and return its result, in `environment`, or in ours. How long it took, how it
    ended, and what its native libraries said last is logged.

    Raises the VideoMomentsError that the child reports, MediaTimeout past `timeout_seconds`, MediaKilled when somebody
    else killed the child, and MediaCrashed when the child ends without an answer (another signal, or `memory_bytes` of
    address space used up).
    """
    began, outcome, noise = time.monotonic(), "stopped", []
    try:
        result = _run(module, request, timeout_seconds, memory_bytes, on_progress, environment, noise)
        outcome = "done"
        return result
    except VideoMomentsError as error:
        outcome = error.code
        raise
    finally:
        operation = request["operation"]
        about = {"operation": operation, "outcome": outcome, "seconds": round(time.monotonic() - began, 3)}
        said = _last_words(noise)
        _log.info("%s: %s.", operation, outcome, extra={**about, **({"said": said} if said else {})})


def _run(
    module: str,
    request: dict[str, Any],
    timeout_seconds: float,
    memory_bytes: int,
    on_progress: Progress | None,
    environment: Mapping[str, str] | None,
    noise: list[str],
) -> Any:
    """`noise` is filled with the last lines of what the child printed."""
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # `-m` would import from the directory the user stands in
        env={**(os.environ if environment is None else environment), "PYTHONSAFEPATH": "1"},
        start_new_session=True,
    )
    assert child.stdin and child.stdout and child.stderr  # noqa: S101  # pipes were asked for
    timed_out = threading.Event()
    timer = threading.Timer(timeout_seconds, lambda: (timed_out.set(), _kill_group(child)))
    drain = threading.Thread(target=_keep_tail, args=(child.stderr, noise), daemon=True)
    timer.start()
    drain.start()
    try:
        with suppress(BrokenPipeError):  # it died at once: the missing answer below says so
            child.stdin.write(
                json.dumps({**request, "parent": os.getpid(), "limits": [timeout_seconds, memory_bytes]}).encode()
            )
            child.stdin.close()
        for message in _messages(child.stdout):
            if "progress" in message and on_progress:
                on_progress(float(message["progress"]))
            elif "result" in message:
                return message["result"]
            elif "error" in message:
                raise reported(message["error"])
        child.wait()
    finally:
        timer.cancel()
        _kill_group(child)
        child.wait()
        drain.join(timeout=1)
        for pipe in (child.stdin, child.stdout, child.stderr):
            with suppress(BrokenPipeError):
                pipe.close()
    if timed_out.is_set():
        raise MediaTimeout(f"{module.rsplit('.', 1)[-1]} did not finish within {timeout_seconds:.0f} s.")
    how = _how(child.returncode)
    died = MediaKilled if child.returncode == -signal.SIGKILL else MediaCrashed  # it was not us: that is told above
    raise died(f"{module.rsplit('.', 1)[-1]} ended with {how}. {_last_words(noise)}".strip())


def serve_child(operations: dict[str, Callable[..., Any]]) -> None:
    """The child's side: run `operations[request["operation"]](**request["arguments"])` and answer.

    An operation that takes `on_progress` gets a function that reports progress. Only VideoMomentsErrors are reported
    as such; any other exception ends the child with its traceback on stderr.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # native libraries print to stdout; keep our channel clean
    request = json.load(sys.stdin)
    _end_with(request["parent"])
    _limit(*request["limits"])  # here and not in a preexec_fn: forking hooks deadlock in threaded parents
    operation, arguments = operations[request["operation"]], request["arguments"]
    if "on_progress" in inspect.signature(operation).parameters:
        arguments["on_progress"] = lambda done: answers.write(json.dumps({"progress": round(done, 4)}) + "\n")
    try:
        answer = {"result": operation(**arguments)}
    except VideoMomentsError as error:
        answer = {"error": {"class": type(error).__name__, "message": error.message, "hint": error.hint}}
    except OSError as error:
        if error.errno not in errors.NO_SPACE:
            raise
        answer = {"error": {"class": "DiskFull", "message": str(error), "hint": errors.DiskFull.hint}}
    answers.write(json.dumps(answer, default=_plain) + "\n")
    answers.close()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)


def reported(error: dict[str, str]) -> VideoMomentsError:
    """The error that a child handed back, for a whole operation or for one item of it."""
    kind = getattr(errors, error["class"], VideoMomentsError)
    return kind(error["message"], hint=error["hint"])


def _messages(pipe: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in pipe:
        with suppress(ValueError):  # a line cut off by a kill
            yield json.loads(line)


def _keep_tail(pipe: IO[bytes], noise: list[str]) -> None:
    with suppress(ValueError, OSError):
        for line in pipe:
            noise.append(line.decode(errors="replace"))
            del noise[:-20]


def _last_words(noise: list[str]) -> str:
    """Redacted before it is shortened: half a secret looks like none."""
    return redacted("".join(noise))[-_SHOWN_CHARACTERS:].strip()


def _limit(timeout_seconds: float, memory_bytes: int) -> None:
    cores = os.cpu_count() or 1
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    seconds = int(timeout_seconds * cores) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with(parent: int) -> None:
    """Be killed when the thread that started us ends, as it does with its process: a kill -9 runs no `finally`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            os.kill(os.getpid(), signal.SIGKILL)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _how(returncode: int) -> str:
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
