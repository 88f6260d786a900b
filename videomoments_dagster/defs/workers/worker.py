"""A worker of this host: `python -m videomoments_dagster.defs.workers.worker [--concurrency N] [--queues A,B]
[--reload]`. One Celery worker whose processes are forked warm: Dagster and the definitions are imported before.

SIGTERM, SIGINT, SIGHUP or SIGQUIT: no new runs; those at work may finish for the grace time, then they are handed
back. The second of them hands back at once.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from socket import gethostname
from typing import Any

import dagster as dg
from billiard.exceptions import WorkerLostError
from billiard.util import get_logger
from celery import signals
from celery.worker import state
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

from videomoments_dagster import garbage
from videomoments_dagster.defs import logs
from videomoments_dagster.defs.instance_storage import leave_connections
from videomoments_dagster.defs.workers.configuration import celery_arguments
from videomoments_dagster.defs.workers.launcher import HANDED_BACK, PROCESS_DIED
from videomoments_dagster.defs.workers.task import LeasedTask, holders_of, lease_client
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.lease import RunLease
from videomoments_dagster.requests.workers import ANNOUNCE_SECONDS, Worker, WorkerRegistry
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.temp_files import CLEAN_EVERY_SECONDS, TempFiles

_log = logging.getLogger("videomoments.worker")


def main(arguments: list[str] | None = None) -> None:
    """Work until it is stopped, then exit. `arguments` are the program's own if None."""
    settings = get_settings()
    parser = argparse.ArgumentParser()
    parser.add_argument("--concurrency", type=int, default=settings.worker_processes or 1)
    parser.add_argument("--queues", default=settings.worker_queues)
    parser.add_argument("--reload", action="store_true")
    options = parser.parse_args(arguments)
    logs.configure("worker")
    logs.redact_errors()
    signals.setup_logging.connect(_leave_logging, weak=False)
    if options.reload:
        sys.dont_write_bytecode = True  # it would hide an edit within the same second
    else:
        _warm_up()
    me = Worker(
        name=f"videomoments-{os.getpid()}@{gethostname()}",
        host=gethostname(),
        pid=os.getpid(),
        queues=options.queues.split(","),
        processes=options.concurrency,
        running=0,
    )
    worker = _app(settings).Worker(
        hostname=me.name,
        concurrency=me.processes,
        queues=me.queues,
        pool="prefork",
        loglevel="INFO",
        quiet=True,
        max_tasks_per_child=1 if options.reload else settings.worker_max_runs,
        max_memory_per_child=settings.worker_memory_bytes // 1024,  # Celery counts KiB
        without_mingle=True,  # asks other workers for a second what they have revoked; nothing is revoked here
        without_gossip=True,
        without_heartbeat=True,
    )
    signals.worker_process_init.connect(_leave_terminal)
    signals.worker_process_init.connect(_clean_temp)
    signals.task_failure.connect(_process_died)
    presence = _Presence(me, settings)
    signals.worker_ready.connect(presence.begin)
    signals.worker_ready.connect(_clean_temp_regularly)
    signals.worker_shutting_down.connect(_Drain(settings), weak=False)
    signals.worker_shutting_down.connect(presence.end)  # the last: it may wait for Redis
    worker.start()
    sys.exit(worker.exitcode)


def _app(settings: Settings) -> Any:
    app = make_app(celery_arguments(settings.redis_url))
    options: dict[str, Any] = {"base": LeasedTask}
    create_execute_job_task(app, **options)
    return app


def _warm_up() -> None:
    """All that a run needs, made once: processes forked from here share its memory and start at once."""
    from videomoments_dagster.definitions import defs

    defs.get_repository_def().get_all_jobs()
    _run_nothing()
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()  # the modules of its storages, and that Dagster's tables are there
    leave_connections()
    garbage.as_usual()


def _run_nothing() -> None:
    """Dagster imports half of itself when the first run starts."""

    @dg.asset
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        quietly = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
        dg.materialize([nothing], instance=instance, run_config=quietly)


def _leave_logging(**_: Any) -> None:
    """Celery sets up its own unless somebody listens to this signal. It is sent when Celery has forgotten billiard's
    logger: the next who asks for that one keeps it to itself, and without a handler its words come out as they are."""
    get_logger().propagate = True


def _leave_terminal(**_: Any) -> None:
    """Sent in each process of the pool. A terminal's Ctrl-C goes to the whole group, and would cancel the runs that the
    worker lets finish. With the worker they end all the same: the kernel kills them."""
    os.setsid()


def _clean_temp(**_: Any) -> None:
    """Sent in each process of the pool, so also in the one that follows a killed one. The run that it had may go on
    on another host, which can't remove the temporary files here. In the background: the pool kills a process that is
    not up within seconds."""
    TempFiles.of(get_settings()).clean_in_background()


def _clean_temp_regularly(sender: Any, **_: Any) -> None:
    """Sent in the main process. What others schedule reaches one host; each has temporary files of its own."""
    sender.timer.call_repeatedly(CLEAN_EVERY_SECONDS, _clean_temp)


def _process_died(task_id: str, exception: BaseException, **_: Any) -> None:
    """Sent in the worker's main process: a run whose process died need not wait for the end of its lease."""
    if isinstance(exception, WorkerLostError):
        with suppress(ServiceUnavailable):  # then its lease ends by itself
            lease = RunLease(lease_client(get_settings().redis_url), task_id)
            lease.declare_lost(PROCESS_DIED, held_by=holders_of(os.getpid()))


class _Presence:
    """Keeps this worker in the list of workers."""

    def __init__(self, me: Worker, settings: Settings) -> None:
        self._me, self._registry = me, WorkerRegistry(connect(settings.redis_url))
        self._ended = False

    def begin(self, sender: Any, **_: Any) -> None:
        # At SIGHUP Celery would start itself anew, by the wrong name; at SIGQUIT, or a second SIGINT, it would
        # interrupt the runs, and they would fail.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.getsignal(signal.SIGTERM))
        sender.timer.call_repeatedly(ANNOUNCE_SECONDS, self._announce)
        self._announce()

    def end(self, **_: Any) -> None:
        self._ended = True  # the timer goes on while the last runs end
        with suppress(ServiceUnavailable):  # forgotten soon all the same
            self._registry.leave(self._me.name)

    def _announce(self) -> None:
        if self._ended:
            return
        with suppress(ServiceUnavailable):
            self._registry.announce(replace(self._me, running=len(state.active_requests)))


class _Drain:
    """Waits for the runs at work when the worker was asked to stop; those left after the grace time, or when it was
    asked twice, are handed back: declared lost, so that the run monitor fails them and Dagster retries them from the
    failed step elsewhere."""

    def __init__(self, settings: Settings) -> None:
        self._grace_seconds = settings.worker_grace_seconds
        self._is_asked = False

    def __call__(self, **_: Any) -> None:
        if self._is_asked:
            self._hand_back()
        self._is_asked = True
        _log.info("Stopping: %d runs have %.0f s to finish.", len(state.active_requests), self._grace_seconds)
        timer = threading.Timer(self._grace_seconds, self._hand_back)
        timer.daemon = True
        timer.start()

    def _hand_back(self) -> None:
        try:
            for run_id in _active_runs():
                _log.info("Run %s is handed back.", run_id)
                lease = RunLease(lease_client(get_settings().redis_url), run_id)
                lease.declare_lost(HANDED_BACK, held_by=holders_of(os.getpid()))
        except ServiceUnavailable as away:
            _log.warning("%s The leases end by themselves.", away.message)
        finally:
            os._exit(0)  # the pool's processes die with this one


def _active_runs() -> list[str]:
    """Celery's set changes while it is looked at from another thread."""
    while True:
        with suppress(RuntimeError):
            return [str(request.id) for request in state.active_requests]


if __name__ == "__main__":
    main()
