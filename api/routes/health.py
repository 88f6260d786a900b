"""Is the process there, and can it reach what it stands on."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict

from api.problems import described
from api.schemas.base import Output
from api.services import Here
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.redis_connection import reaching

router = APIRouter(tags=["Health"])
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


@router.get("/health", summary="Check the services", responses={**described(), 503: {"model": Health}})
def get_health(here: Here, response: Response) -> Health:
    """200 when PostgreSQL, Redis and the object store answer; 503 and `degraded` otherwise."""

    def ping_redis() -> None:
        with reaching(here.redis):
            here.redis.ping()

    states = {
        "database": _state(here.database.ping),
        "redis": _state(ping_redis),
        "storage": _state(here.store.ping),
    }
    healthy = set(states.values()) == {"connected"}
    response.status_code = 200 if healthy else 503
    return Health.model_validate({"status": "ok" if healthy else "degraded", **states})


@router.get("/health/live", summary="Check the process", responses=described())
async def get_liveness() -> Alive:
    """Answers without asking anything else."""
    return Alive(status="ok")


def _state(ping: Callable[[], object]) -> _Connection:
    try:
        ping()
    except VideoMomentsError:
        return "unavailable"
    return "connected"
