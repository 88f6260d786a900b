"""A long-lived child process of the stack: its log, how it is spawned, asked whether it is well, and stopped.

Spawn from the main thread only: a child's life is tied to the thread that started it.
"""

import contextlib
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from videomoments_dagster.stack.files import open_log
from videomoments_dagster.stack.identity import OURSELVES, Identity


class Child(ABC):
    """One process in a session of its own. `process` is None before `begin` and after `stop`."""

    name: str
    log: Path
    stop_signal = signal.SIGTERM
    death_signal = signal.SIGTERM
    grace_seconds = 5.0
    address: str | None = None

    process: subprocess.Popen[bytes] | None = None
    once = False
    """Whether it is a step that ends, and is ready when it has ended well."""
    satisfied_early = False
    """Whether those that need it may begin before it is ready."""

    @abstractmethod
    def begin(self) -> None:
        """Start the process and return at once. Raises ServiceUnavailable."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it answers its own protocol now."""

    def stop(self) -> None:
        """Stop the process and wait for its end; killed after `grace_seconds`. Safe to repeat."""
        if self.process is None:
            return
        self.ask_to_stop()
        try:
            self.process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.wait()
        self.process = None

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def spawn(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        *,
        identity: Identity = OURSELVES,
        cwd: Path | None = None,
    ) -> None:
        with open_log(self.log) as log:
            self.process = subprocess.Popen(
                identity.command(argv, death_signal=self.death_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )


class Program(Child):
    """A program that is spawned as it is: no preparation."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        *,
        log: Path,
        environment: Callable[[], Mapping[str, str]],
        probe: Callable[[], bool] | None = None,
        address: str | None = None,
        grace_seconds: float = 5.0,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Without a `probe` it is a step that ends. `environment` is asked when it begins: ports are known by then."""
        self.name, self.argv, self.log = name, argv, log
        self.environment, self.probe, self.once = environment, probe, probe is None
        self.address, self.grace_seconds, self.stop_signal = address, grace_seconds, stop_signal
        self.death_signal = signal.SIGKILL  # when the supervisor is killed nobody is left to enforce a grace time

    def begin(self) -> None:
        self.spawn(self.argv, self.environment())

    def answers(self) -> bool:
        if self.probe is not None:
            return self.probe()
        return self.process is not None and self.process.poll() == 0
