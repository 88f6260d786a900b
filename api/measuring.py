"""The platform in Prometheus' text format: this process's HTTP, what workers counted in Redis, and rows of PostgreSQL.

What can't be reached is left out, and `videomoments_up` says so.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from sqlalchemy.orm import Session

from api.observing import HttpMetrics
from api.services import Services
from db.queries import metrics as queries
from db.session import Database
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.requests.metrics import (
    MODEL_SECONDS,
    MODEL_TOKENS,
    STAGE_SECONDS,
    HistogramKind,
    HistogramValue,
    Labels,
)
from videomoments_dagster.requests.metrics import Metrics as CountedMetrics
from videomoments_dagster.requests.stream import RequestStream
from videomoments_dagster.requests.workers import WorkerRegistry

_QUEUE_SECONDS, _TOTALS_SECONDS = 2.0, 30.0
_SHARE = 50
"""What took a second is asked for again after so many: scraping costs PostgreSQL two percent of a core at most,
as long as it does not take more than a second."""
_LONGEST_SECONDS = 60.0
_PATIENCE_SECONDS = 10.0
"""Whoever asks for longer asks in vain: PostgreSQL hangs."""
_STATES = ("queued", "launched", "finished", "rejected")
_STATUSES = ("running", "completed", "failed", "partial", "cancelled")
_Value = TypeVar("_Value")


class _Kept(Generic[_Value]):
    """A value, or why there is none, asked for at most every `seconds`, and by one thread at a time. Meanwhile the
    others have the value of before."""

    def __init__(self, seconds: float, ask: Callable[[Session], _Value]) -> None:
        self._seconds, self._ask, self._lock = seconds, ask, threading.Lock()
        self._value: _Value | None = None
        self._began = self._until = 0.0

    def get(self, database: Database) -> _Value | None:
        """None while PostgreSQL does not answer."""
        if self._lock.acquire(timeout=0 if self._until else _PATIENCE_SECONDS):
            try:
                if time.monotonic() >= self._until:
                    self._began = time.monotonic()
                    self._value, pause_seconds = self._asked(database)
                    self._until = time.monotonic() + pause_seconds
                return self._value
            finally:
                self._lock.release()
        return self._value if time.monotonic() - self._began < _PATIENCE_SECONDS else None

    def _asked(self, database: Database) -> tuple[_Value | None, float]:
        """The value, and for how many seconds it is good. Only what PostgreSQL did makes it good for longer: neither
        waiting for a connection nor a failure."""
        with suppress(ServiceUnavailable), database.session() as session:
            began = time.monotonic()
            value = self._ask(session)
            worked_seconds = time.monotonic() - began
            return value, max(self._seconds, min(_SHARE * worked_seconds, _LONGEST_SECONDS))
        return None, self._seconds


class Metrics:
    """Made once an application."""

    def __init__(self, http: HttpMetrics) -> None:
        self._http = http
        self._queue = _Kept(_QUEUE_SECONDS, queries.queue)
        self._totals = _Kept(_TOTALS_SECONDS, queries.totals)

    def text(self, services: Services) -> bytes:
        """Everything there is. Never raises for a service that is away."""
        up = _gauge("up", "Whether the API reaches a part.", "part")
        queue = self._queue.get(services.database)
        totals = self._totals.get(services.database) if queue else None
        up.add_metric(["postgresql"], queue is not None)
        families = [up, *(_of_queue(queue) if queue else ()), *(_of_totals(totals) if totals else ())]
        try:
            families += _of_redis(services)
        except ServiceUnavailable:
            up.add_metric(["redis"], 0)
        else:
            up.add_metric(["redis"], 1)
        families.append(_gauge("build_info", "The version that answers.", "version"))
        families[-1].add_metric([version("videomoments")], 1)
        registry = CollectorRegistry()
        registry.register(_Families(families))
        return generate_latest(self._http.registry) + generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _of_queue(queue: queries.Queue) -> Iterator[Metric]:
    depth = _gauge("queue_depth", "Requests without an end: queued, or launched as a run.", "state")
    depth.add_metric(["queued"], queue.queued)
    depth.add_metric(["launched"], queue.launched)
    yield depth
    oldest = _gauge("queue_oldest_seconds", "How long the first queued request has waited; 0 without one.")
    oldest.add_metric([], queue.oldest_seconds)
    yield oldest


def _of_totals(totals: queries.Totals) -> Iterator[Metric]:
    yield _by(
        "requests", "Pipeline requests there are, by state.", "state", dict.fromkeys(_STATES, 0) | totals.requests
    )
    yield _by("runs", "Runs in history, by outcome.", "status", dict.fromkeys(_STATUSES, 0) | totals.runs)
    yield _by("stored_bytes", "Bytes of the files that rows name, in whole kB.", "kind", totals.bytes)
    yield _by("stored_objects", "Files that rows name.", "kind", totals.objects)


def _of_redis(services: Services) -> list[Metric]:
    """Raises ServiceUnavailable."""
    counted, workers = CountedMetrics(services.redis), WorkerRegistry(services.redis).living()
    here = _gauge("workers", "Workers that announced themselves within 15 s.", "host")
    busy = _gauge("worker_processes", "Processes of workers, by what they do.", "host", "state")
    for host in sorted({worker.host for worker in workers}):
        on_host = [worker for worker in workers if worker.host == host]
        running, processes = sum(each.running for each in on_host), sum(each.processes for each in on_host)
        here.add_metric([host], len(on_host))
        busy.add_metric([host, "busy"], running)
        busy.add_metric([host, "idle"], max(0, processes - running))
    tokens = CounterMetricFamily(MODEL_TOKENS.name, MODEL_TOKENS.help, labels=MODEL_TOKENS.labels)
    for labels, value in counted.counter(MODEL_TOKENS).items():
        tokens.add_metric(labels, value)
    histograms = [_histogram(kind, counted.histogram(kind)) for kind in (STAGE_SECONDS, MODEL_SECONDS)]
    dead = _gauge("dead_messages", "Messages in the stream that nobody could understand.")
    dead.add_metric([], RequestStream(services.redis).dead())
    return [here, busy, *histograms, tokens, dead]


def _histogram(kind: HistogramKind, values: dict[Labels, HistogramValue]) -> Metric:
    family = HistogramMetricFamily(kind.name, kind.help, labels=kind.labels)
    limits = [*(floatToGoString(limit) for limit in kind.buckets), "+Inf"]
    for labels, value in values.items():
        family.add_metric(labels, list(zip(limits, value.cumulative, strict=True)), value.sum)
    return family


def _by(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = _gauge(name, text, label)
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"videomoments_{name}", text, labels=labels)
