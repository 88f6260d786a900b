"""What is counted on any host, in Redis: stages and questions to models. One hash a metric, `metrics:{name}`, one round
trip an observation, and none is worth an error: while Redis is away nothing is counted.
"""

import json
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import redis

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import reaching

Labels = tuple[str, ...]
_SUM = "sum"


@dataclass(frozen=True, slots=True)
class CounterKind:
    """A number that grows, by `labels`. `name` is without the `_total` that it is shown with."""

    name: str
    help: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class HistogramKind:
    """Observations by `labels` and by size; `buckets` are upper limits, rising, without infinity."""

    name: str
    help: str
    labels: Labels
    buckets: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """`cumulative` counts what is at most each limit, and at its end everything."""

    cumulative: tuple[int, ...]
    sum: float


STAGE_SECONDS = HistogramKind(
    "videomoments_stage_seconds",
    "Seconds of a stage of a video's pipeline, in one attempt.",
    ("stage", "outcome"),
    (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
)
MODEL_SECONDS = HistogramKind(
    "videomoments_model_request_seconds",
    "Seconds from a question to a remote model to its answer, with retries.",
    ("model", "kind", "outcome"),
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
MODEL_TOKENS = CounterKind("videomoments_model_tokens", "Tokens that remote chat models count.", ("model", "direction"))


class Metrics:
    """Counts and reads."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def observe(self, histogram: HistogramKind, labels: Labels, value: float) -> None:
        """Never raises: nothing is counted while Redis is away."""
        bucket = bisect_left(histogram.buckets, value)
        self._add(histogram.name, {_field(labels, str(bucket)): 1, _field(labels, _SUM): round(value, 4)})

    def count(self, counter: CounterKind, amounts: Mapping[Labels, int]) -> None:
        """Adds to several label values at once. Never raises."""
        self._add(counter.name, {_field(labels, _SUM): amount for labels, amount in amounts.items()})

    def histogram(self, histogram: HistogramKind) -> dict[Labels, HistogramValue]:
        """Raises ServiceUnavailable."""
        found: dict[Labels, HistogramValue] = {}
        for labels, values in self._read(histogram.name).items():
            counts = [int(values.get(str(bucket), 0)) for bucket in range(len(histogram.buckets) + 1)]
            found[labels] = HistogramValue(tuple(accumulate(counts)), values.get(_SUM, 0.0))
        return found

    def counter(self, counter: CounterKind) -> dict[Labels, float]:
        """Raises ServiceUnavailable."""
        return {labels: values.get(_SUM, 0.0) for labels, values in self._read(counter.name).items()}

    def _add(self, name: str, amounts: Mapping[str, float]) -> None:
        with suppress(ServiceUnavailable), reaching(self._redis), self._redis.pipeline() as batch:
            for field, amount in amounts.items():
                batch.hincrbyfloat(_key(name), field, amount)
            batch.execute()

    def _read(self, name: str) -> dict[Labels, dict[str, float]]:
        with reaching(self._redis):
            fields: Any = self._redis.hgetall(_key(name))
        found: dict[Labels, dict[str, float]] = {}
        for field, value in fields.items():
            *labels, part = json.loads(field)
            found.setdefault(tuple(labels), {})[part] = float(value)
        return found


def _key(name: str) -> str:
    return f"metrics:{name}"


def _field(labels: Labels, part: str) -> str:
    return json.dumps([*labels, part])
