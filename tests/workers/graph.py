"""Jobs for workers to execute, each with one behaviour. Steps meet the test at a Gate (see gate.py).

Workers import this module at their first run of it; it imports nothing of the product.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

DIRECTORY_TAG = "test/directory"
POOL = "narrow"
_AFTER = {"start": dg.In(dg.Nothing)}
_kept: list[bytearray] = []


def _note(context: dg.OpExecutionContext) -> Path:
    """Write down who executes the step; the directory of this run's test."""
    directory = Path(context.run.tags[DIRECTORY_TAG])
    with (directory / "executed").open("a") as executed:
        executed.write(f"{context.run_id} {context.op.name} {os.getpid()}\n")
    return directory


def _meet(directory: Path) -> None:
    """Say that the step is there, then wait until the test lets it go on."""
    (directory / "entered").write_text(f"{os.getpid()}\n")
    with (directory / "go").open("rb", buffering=0) as go:
        go.read(1)


@dg.op(out=dg.Out(dg.Nothing))
def first(context: dg.OpExecutionContext) -> None:
    _note(context)


@dg.op(ins=_AFTER)
def second(context: dg.OpExecutionContext) -> None:
    _note(context)


@dg.op(ins=_AFTER)
def gated(context: dg.OpExecutionContext) -> None:
    _meet(_note(context))


@dg.op(ins=_AFTER, pool=POOL)
def pooled(context: dg.OpExecutionContext) -> None:
    _meet(_note(context))


@dg.op(ins=_AFTER)
def hanging(context: dg.OpExecutionContext) -> None:
    """A native call that never gives Python's lock back: no thread of the process runs any more. Not when retried."""
    directory = _note(context)
    if context.run.parent_run_id is None:
        (directory / "entered").write_text(f"{os.getpid()}\n")
        ctypes.PyDLL(None).sleep(600)


@dg.op
def parent_of_another(context: dg.OpExecutionContext) -> None:
    """Waits for a program that it started, and takes it along when it is interrupted."""
    directory = _note(context)
    with subprocess.Popen(["sleep", "600"]) as child:
        (directory / "entered").write_text(f"{child.pid}\n")
        try:
            child.wait()
        finally:
            child.kill()


@dg.op
def growing(context: dg.OpExecutionContext) -> None:
    _note(context)
    _kept.append(bytearray(os.urandom(1024) * 400 * 1024))


@dg.op
def looking_around(context: dg.OpExecutionContext) -> None:
    """Write down what this process was born with. `edited` is a module that the test makes, and changes."""
    import edited  # pyright: ignore[reportMissingImports]

    seen = {"warm": "videomoments_dagster.definitions" in sys.modules, "edited": edited.VALUE}
    (_note(context) / f"seen-{context.run_id}.json").write_text(json.dumps(seen))


@dg.job(executor_def=dg.in_process_executor)
def quick() -> None:
    second(first())


@dg.job(executor_def=dg.in_process_executor)
def waiting() -> None:
    gated(first())


@dg.executor(requirements=dg.multiple_process_executor_requirements())
def meeting_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Dagster makes it after its last look at the run, and before the run's start is written down."""
    [run] = context.instance.get_runs(dg.RunsFilter(job_name=late.name), limit=1)
    _meet(Path(run.tags[DIRECTORY_TAG]))
    return InProcessExecutor(RetryMode.DISABLED)


@dg.job(executor_def=meeting_executor)
def late() -> None:
    gated(first())


@dg.job(executor_def=dg.in_process_executor)
def slotted() -> None:
    pooled(first())


@dg.job(executor_def=dg.in_process_executor)
def stuck() -> None:
    hanging(first())


@dg.job(executor_def=dg.in_process_executor)
def family() -> None:
    parent_of_another()


@dg.job(executor_def=dg.in_process_executor)
def leaking() -> None:
    growing()


@dg.job(executor_def=dg.in_process_executor)
def curious() -> None:
    looking_around()


defs = dg.Definitions(jobs=[quick, waiting, late, slotted, stuck, family, leaking, curious])
