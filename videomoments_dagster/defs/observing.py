"""A run seen from outside: its stages and its questions to models, as lines of the log and in the metrics."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import redis

from videomoments_dagster import logs
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG
from videomoments_dagster.errors import Cancelled
from videomoments_dagster.models.calls import ModelCall
from videomoments_dagster.requests.metrics import MODEL_SECONDS, MODEL_TOKENS, STAGE_SECONDS, Metrics
from videomoments_dagster.requests.stages import Stage

_log = logging.getLogger("videomoments.stages")


@contextmanager
def observed(context: dg.AssetExecutionContext, client: "redis.Redis", stage: Stage) -> Iterator[None]:
    """Every line logged in the body says what it is about; its beginning and its end are lines of their own. The
    outcome is completed, failed, cancelled, or interrupted when it goes on in another process."""
    with logs.bound(**about(context.run), stage=stage.value):
        began, outcome = time.monotonic(), "interrupted"
        _log.info("%s begins.", stage)
        try:
            yield
            outcome = "completed"
        except dg.Failure as failure:
            code = str(failure.metadata["code"].value)
            outcome = "cancelled" if code == Cancelled.code else "failed"
            _log.warning(
                "%s: %s", stage, failure.description, extra={"code": code, "attempt": context.retry_number + 1}
            )
            raise
        except Exception:
            outcome = "failed"
            _log.exception("%s is broken.", stage)
            raise
        finally:
            seconds = round(time.monotonic() - began, 3)
            _log.info("%s %s.", stage, outcome, extra={"seconds": seconds, "outcome": outcome})
            Metrics(client).observe(STAGE_SECONDS, (stage.value, outcome), seconds)


def about(run: dg.DagsterRun) -> dict[str, str | None]:
    """What lines about a run carry."""
    return {"request_id": run.tags.get(REQUEST_TAG), "video": run.tags.get(PARTITION_TAG), "run_id": run.run_id}


def counting(client: "redis.Redis") -> Callable[[ModelCall], None]:
    """Counts questions to models, whoever asks them."""
    metrics = Metrics(client)

    def count(call: ModelCall) -> None:
        metrics.observe(MODEL_SECONDS, (call.model, call.kind, call.outcome), call.seconds)
        tokens = {(call.model, direction): amount for direction, amount in call.tokens().items()}
        if tokens:
            metrics.count(MODEL_TOKENS, tokens)

    return count
