"""Starts the parts of a plan, keeps them running, and stops them: one thread, woken by signals.

What the parts are is in plan.py; what they leave behind in home.py. Linux's rule that a child may die with the
*thread* that started it is why there is only one.
"""

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

import psutil

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.settings import Settings
from videomoments_dagster.stack.child import Child
from videomoments_dagster.stack.files import last_lines, rotate, write_private_json
from videomoments_dagster.stack.home import Home
from videomoments_dagster.stack.plan import CODE, POSTGRESQL, REDIS, Part, Plan, make_plan
from videomoments_dagster.stack.process_table import kill_all, marked

START_SECONDS = 120.0
_BEAT_SECONDS = 0.05
_BEAT_SHARE = 0.05  # of the time that it has taken so far: what a start may take longer
_LOGS_SECONDS = 60.0
_BACKOFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)
_STEADY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell the user: a part is ready, the whole platform is, or a remark."""

    kind: Literal["part", "ready", "note"]
    text: str
    seconds: float = 0.0
    address: str | None = None


Report = Callable[[Event], None]


class _State(Enum):
    WAITING = auto()
    STARTING = auto()
    READY = auto()
    FALLEN = auto()


class _Watched:
    """A part with what the supervisor knows of it."""

    def __init__(self, part: Part) -> None:
        self.child: Child = part.child
        self.needs = part.needs
        self.state = _State.WAITING
        self.since = 0.0
        self.falls = 0
        self.ready_once = False

    @property
    def satisfied(self) -> bool:
        """Whether those that need this one may begin."""
        return self.ready_once or (self.state is _State.STARTING and self.child.satisfied_early)

    def enter(self, state: _State) -> None:
        self.state, self.since = state, time.monotonic()


class Supervisor:
    """One platform in one home. `run` returns when it was asked to stop, by SIGINT, SIGTERM or SIGHUP."""

    def __init__(self, settings: Settings, report: Report, *, with_dagster: bool = True) -> None:
        self.settings, self.report, self.with_dagster = settings, report, with_dagster
        self.home = Home(settings.home)
        self.stopping = False
        self.killing = False
        self.watched: list[_Watched] = []
        self.rotated = 0.0

    def run(self) -> None:
        """Raises Conflict when a platform runs there already, ServiceUnavailable when a part does not come up."""
        begun = time.monotonic()
        self.home.make()
        with self.home.acquire(), self._signals() as wakeups:
            try:
                if left := self.home.clear():
                    self.report(Event("note", f"Stopped {left} processes that an earlier platform left here."))
                plan = make_plan(self.settings, self.home, with_dagster=self.with_dagster)
                for note in plan.notes:
                    self.report(Event("note", note))
                self.watched = [_Watched(part) for part in plan.parts]
                self._watch(plan, wakeups, begun)
            finally:
                self._stop(wakeups)
                self.home.clear()

    def _watch(self, plan: Plan, wakeups: socket.socket, begun: float) -> None:
        announced = False
        while not self.stopping:
            changed = [self._step(watched, plan) for watched in self.watched]
            if all(watched.state is _State.READY for watched in self.watched) and (any(changed) or not announced):
                write_private_json(self.home.connections, self._connections(plan))
                if not announced:
                    self.report(Event("ready", self.home.addresses(), time.monotonic() - begun))
                announced = True
            self._rotate_logs()
            self._sleep(wakeups)

    def _rotate_logs(self) -> None:
        """Processes live for months. The supervisor's own log too."""
        if time.monotonic() < self.rotated + _LOGS_SECONDS:
            return
        for log in self.home.logs.glob("*.log"):
            rotate(log)
        self.rotated = time.monotonic()

    def _step(self, watched: _Watched, plan: Plan) -> bool:
        """Move one part on, if it can. Returns whether it became ready."""
        child = watched.child
        if watched.state is _State.WAITING:
            by_name = {other.child.name: other for other in self.watched}
            if all(by_name[name].satisfied for name in watched.needs):
                child.begin()
                watched.enter(_State.STARTING)
        elif watched.state is _State.STARTING:
            ended = child.process is None or child.process.poll() is not None
            if child.answers():
                seconds = time.monotonic() - watched.since
                again = Event("note", f"{child.name} is back after {seconds:.1f} s.", seconds)
                first = Event("part", child.name, seconds, child.address)
                self.report(again if watched.ready_once else first)
                watched.ready_once = True
                watched.enter(_State.READY)
                return True
            late = time.monotonic() - watched.since > START_SECONDS and not child.once
            if ended or late:
                self._fallen(watched)
        elif watched.state is _State.READY:
            if not child.once and child.process is not None and child.process.poll() is not None:
                self._fallen(watched)
        elif time.monotonic() - watched.since >= _BACKOFF_SECONDS[watched.falls - 1]:
            child.begin()
            watched.enter(_State.STARTING)
        return False

    def _fallen(self, watched: _Watched) -> None:
        child = watched.child
        code = child.process.poll() if child.process else None
        how = "does not answer" if code is None else f"ended ({_how(code)})"
        if watched.state is _State.READY and time.monotonic() - watched.since > _STEADY_SECONDS:
            watched.falls = 0
        if not watched.ready_once or watched.falls >= len(_BACKOFF_SECONDS):
            again = " again and again" if watched.falls else ""
            raise ServiceUnavailable(
                f"{child.name} {how}{again}. The end of its log:\n{last_lines(child.log)}",
                hint=f"The whole log is {child.log}; `videomoments doctor` checks this machine.",
            )
        child.stop()
        watched.falls += 1
        watched.enter(_State.FALLEN)
        self.report(Event("note", f"{child.name} {how}; it is started again."))

    def _connections(self, plan: Plan) -> dict[str, Any]:
        me = psutil.Process()
        children = [watched.child for watched in self.watched if not watched.child.once]
        return {
            "database_url": plan.database_url,
            "dagster_database_url": plan.dagster_database_url,
            "redis_url": plan.redis_url,
            "api_url": plan.api_url,
            "dagster_url": plan.dagster_url,
            "dagster_home": str(self.home.dagster),
            "environment": plan.variables(),
            "supervisor": {"pid": me.pid, "started": me.create_time()},
            "children": {child.name: child.process.pid for child in children if child.process},
        }

    def _stop(self, wakeups: socket.socket) -> None:
        """First who asks for work and who does it, then what they ask, then what keeps their results. A second signal
        kills."""
        self.stopping = True
        everyone = [watched.child for watched in self.watched if watched.child.process]
        servers = [child for child in everyone if child.name in {POSTGRESQL, REDIS}]
        code = [child for child in everyone if child.name == CODE]
        self._end([child for child in everyone if child not in (*servers, *code)], wakeups)
        self._end(code, wakeups)
        kill_all(marked(self.home.path))
        self._end(servers, wakeups)

    def _end(self, children: list[Child], wakeups: socket.socket) -> None:
        deadline = time.monotonic() + max((child.grace_seconds for child in children), default=0)
        for child in children:
            child.ask_to_stop()
        while any(child.process and child.process.poll() is None for child in children):
            left = deadline - time.monotonic()
            if left <= 0 or self.killing:
                break
            select.select([wakeups], [], [], min(left, 1.0))
            _drain(wakeups)
        for child in children:
            if child.process and child.process.poll() is None:
                child.kill()
            child.stop()

    def _sleep(self, wakeups: socket.socket) -> None:
        begun = [watched.since for watched in self.watched if watched.state is _State.STARTING]
        fallen = any(watched.state is _State.FALLEN for watched in self.watched)
        timeout = 0.5 if fallen else _LOGS_SECONDS
        if begun:  # a question is a connection: who has taken long is asked less often
            timeout = min(timeout, max(_BEAT_SECONDS, (time.monotonic() - max(begun)) * _BEAT_SHARE))
        select.select([wakeups], [], [], timeout)
        _drain(wakeups)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Signals, and the deaths of children, wake the loop through a socket: none is missed between two looks."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            handlers = {number: signal.signal(number, self._asked) for number in asked}
            handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
            try:
                yield ours
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(before)

    def _asked(self, number: int, _: object) -> None:
        self.killing = self.stopping
        self.stopping = True


def _drain(wakeups: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while wakeups.recv(4096):
            pass


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
