"""Where a step and its test meet, and what steps have written down there."""

import os
import select
from collections import Counter
from pathlib import Path

import psutil


class Gate:
    """Where a step and its test meet. Both ends are held open here, so that neither side waits for an opening."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        for name in ("entered", "go"):
            os.mkfifo(directory / name)
        self._entered, self._go = (os.open(directory / name, os.O_RDWR) for name in ("entered", "go"))

    def entered(self, *, seconds: float = 20.0) -> psutil.Process:
        """Wait until a step is here; the process it named."""
        assert select.select([self._entered], [], [], seconds)[0], "no step came"
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._entered, 1)
        return psutil.Process(int(line))

    @property
    def is_quiet(self) -> bool:
        return not select.select([self._entered], [], [], 0)[0]

    def open(self) -> None:
        """Let one step go on."""
        os.write(self._go, b".")

    def executed(self, step: str | None = None) -> list[tuple[str, int]]:
        """Run and process of every execution of a step, in order."""
        path = self.directory / "executed"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(run_id, int(pid)) for run_id, name, pid in lines if step in {None, name}]

    def close(self) -> None:
        os.close(self._entered)
        os.close(self._go)


def executions(gate: Gate) -> Counter[str]:
    """How often each run has executed a step."""
    return Counter(run_id for run_id, _ in gate.executed())
