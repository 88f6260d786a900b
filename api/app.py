"""The HTTP application: `create_app()` puts services, routes and error shapes together. Nothing starts on import."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from api import docs, openapi, problems
from api.events import StatusHub
from api.measuring import Metrics
from api.observing import HttpMetrics, Observed
from api.parameters import only_known_query
from api.routes import admin, events, health, metrics, models, objects, pipeline, results, search, stages, uploads, videos
from api.services import Services
from videomoments_dagster.errors import InvalidConfig
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.temp_files import TempFiles


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Raises InvalidConfig for an address it must not listen on, ServiceUnavailable when neither a
    database nor a running platform is configured."""
    settings = settings or get_settings()
    _refuse_public_address(settings.backend_host)
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        TempFiles.of(settings).clean_in_background()
        yield
        await app.state.events.stop()
        services.close()

    app = FastAPI(
        title="VideoMoments",
        version=version("videomoments"),
        lifespan=lifespan,
        docs_url=None,  # api/docs.py
        redoc_url=None,
        dependencies=[Depends(only_known_query)],
        generate_unique_id_function=_operation_id,
    )
    app.state.services = services
    app.state.events = StatusHub(services)
    http_metrics = HttpMetrics()
    app.add_middleware(Observed, metrics=http_metrics)
    app.state.metrics = Metrics(http_metrics)
    problems.install(app)
    openapi.install(app)
    docs.install(app)
    for routes in (videos, results, search, stages, events, pipeline, admin, models, health, metrics, objects):
        app.include_router(routes.router)

    return app


def _operation_id(route: APIRoute) -> str:
    """The function's name: stable for generated clients, whatever the path."""
    return route.name


def _refuse_public_address(host: str) -> None:
    """Without API keys, only this machine may ask."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidConfig(
            f"BACKEND_HOST is {host}, but the API has no keys and must not be reached from other machines.",
            hint="Set BACKEND_HOST=127.0.0.1, and put a server that checks who asks in front of it.",
        )
