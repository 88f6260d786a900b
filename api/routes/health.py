"""Is the process there, and can it reach what it stands on."""

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from fastapi import Request, Response
from pydantic import ConfigDict
from starlette.concurrency import run_in_threadpool

from api import routing
from api.problems import described
from api.schemas.base import Output
from api.services import Here, Services
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.redis_connection import reaching

router = routing.router(tags=["Health"])
_KEPT_SECONDS = 1.0
_Connection = Literal["connected", "unavailable"]


class Health(Output):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {"status": "ok", "database": "connected", "redis": "connected", "storage": "connected"}
        }
    )

    status: Literal["ok", "degraded"]
    database: _Connection
    redis: _Connection
    storage: _Connection


class Alive(Output):
    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"]


class Checks:
    """Anybody may ask, and an answer is dear: one check at a time, and good for a second. Made once an application;
    `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, asyncio.Lock()
        self._kept: tuple[Services, Health] | None = None
        self._until = 0.0

    async def of(self, services: Services) -> Health:
        """Those who wait for another's check hold no thread."""
        async with self._lock:
            if self._kept is None or self._kept[0] is not services or self._clock() >= self._until:
                self._kept = services, await run_in_threadpool(_check, services)
                self._until = self._clock() + _KEPT_SECONDS
            return self._kept[1]


@router.get("/health", summary="Check the services", responses={**described(), 503: {"model": Health}})
async def get_health(here: Here, request: Request, response: Response) -> Health:
    """200 when PostgreSQL, Redis and the object store answer; 503 and `degraded` otherwise."""
    checks: Checks = request.app.state.health
    health = await checks.of(here)
    response.status_code = 200 if health.status == "ok" else 503
    return health


@router.get("/health/live", summary="Check the process", responses=described())
async def get_liveness() -> Alive:
    """Answers without asking anything else."""
    return Alive(status="ok")


def _check(services: Services) -> Health:
    def ping_redis() -> None:
        with reaching(services.redis):
            services.redis.ping()

    states = {
        "database": _state(services.database.ping),
        "redis": _state(ping_redis),
        "storage": _state(services.store.ping),
    }
    healthy = set(states.values()) == {"connected"}
    return Health.model_validate({"status": "ok" if healthy else "degraded", **states})


def _state(ping: Callable[[], object]) -> _Connection:
    try:
        ping()
    except VideoMomentsError:
        return "unavailable"
    return "connected"
