"""The webhooks sensor: tells receivers that requests have ended (db/queries/webhooks.py has what, and how it went).

A delivery is claimed, in a transaction of its own, before it is told: a daemon that dies in between tells it again a
minute later, under the same id. At least once, never quite once.
"""

import logging
import time
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import dagster as dg

from db.queries import webhooks as queries
from videomoments_dagster import webhooks as hooks
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import ServiceUnavailable

TICK_SECONDS = 25.0  # then no more is begun; what has begun ends within ATTEMPT_SECONDS, and a tick may take 60 s
AT_ONCE = 16
_PER_RECEIVER = 2  # at once: one that does not answer holds up an eighth of the threads
_LEASE_SECONDS = 60.0  # well above ATTEMPT_SECONDS: nobody else tells what is being told
_LOOK_SECONDS = 1.0  # for what has become due while others are told
_GATHER_SECONDS = 0.02  # threads that become free together are filled by one claim
_log = logging.getLogger("videomoments.webhooks")


@dg.sensor(minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING, jobs=[])
def webhooks(platform: PlatformResource) -> dg.SkipReason:
    """Tells webhooks of requests that have ended, and again what was not heard, for about a day."""
    told = heard = 0
    try:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as threads:
            running: dict[Future[bool], str] = {}
            until = time.monotonic() + TICK_SECONDS
            while time.monotonic() < until:
                if len(running) < AT_ONCE:
                    for claimed in _claimed(platform, running.values()):
                        running[threads.submit(_tell, platform, claimed)] = claimed.receiver
                if not running:
                    break
                if not wait(running, _LOOK_SECONDS, FIRST_COMPLETED).done:
                    continue
                done = wait(running, _GATHER_SECONDS).done
                told, heard = told + len(done), heard + sum(each.result() for each in done)
                running = {each: receiver for each, receiver in running.items() if each not in done}
            told, heard = told + len(running), heard + sum(each.result() for each in running)
    except ServiceUnavailable as error:
        return dg.SkipReason(error.message)
    return dg.SkipReason(f"{heard} of {told} deliveries were heard." if told else "Nothing to tell.")


def _claimed(platform: PlatformResource, busy: Collection[str]) -> list[queries.Claimed]:
    with platform.database.session() as session:
        return queries.claim(
            session,
            limit=AT_ONCE - len(busy),
            per_receiver=_PER_RECEIVER,
            lease_seconds=_LEASE_SECONDS,
            busy=busy,
        )


def _tell(platform: PlatformResource, claimed: queries.Claimed) -> bool:
    """One attempt, and how it went. A line of the log for each: the receiver's owner will ask."""
    began = time.monotonic()
    outcome = _attempt(platform, claimed)
    pause_seconds = hooks.next_pause_seconds(claimed.attempts, outcome)
    with platform.database.session() as session:
        queries.settle(
            session,
            claimed,
            is_delivered=outcome.is_delivered,
            status=outcome.status,
            error=outcome.error,
            pause_seconds=pause_seconds,
        )
    _log.log(
        logging.INFO if outcome.is_delivered else logging.WARNING,
        "A webhook was told." if outcome.is_delivered else "A webhook was not told.",
        extra={
            "delivery": claimed.identifier,
            "attempt": claimed.attempts,
            "error": outcome.error,
            "next_in_seconds": pause_seconds and round(pause_seconds),
            "seconds": round(time.monotonic() - began, 3),
        },
    )
    return outcome.is_delivered


def _attempt(platform: PlatformResource, claimed: queries.Claimed) -> hooks.Outcome:
    """Never raises: what is claimed and not settled would be claimed again for ever."""
    if claimed.attempts > hooks.MOST_ATTEMPTS:
        error = f"Begun {claimed.attempts - 1} times, and never ended."
        return hooks.Outcome(False, error=error, is_final=True)
    try:
        webhook = hooks.Webhook(claimed.url, claimed.secret)
        return hooks.attempt(webhook, claimed.identifier, claimed.payload, platform.settings)
    except Exception:
        _log.exception("Telling a webhook is broken.", extra={"delivery": claimed.identifier})
        return hooks.Outcome(False, error="A defect of VideoMoments: the code server's log says more.")
