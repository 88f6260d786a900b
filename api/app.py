"""The HTTP application: `create_app()` puts services, routes and error shapes together. Nothing starts on import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import access, docs, openapi, problems, routing
from api.conditional import Compressed, Conditional
from api.events import StatusHub
from api.measuring import Metrics
from api.observing import HttpMetrics, Observed
from api.routes import (
    admin,
    captions,
    events,
    exports,
    health,
    keys,
    metrics,
    models,
    moments,
    objects,
    pipeline,
    results,
    search,
    stages,
    uploads,
    videos,
    webhooks,
)
from api.services import Services
from api.tus import Tus
from videomoments_dagster.settings import Settings, get_settings
from videomoments_dagster.temp_files import TempFiles


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Raises InvalidConfig for an address it must not listen on, ServiceUnavailable when neither a
    database nor a running platform is configured."""
    settings = settings or get_settings()
    services = Services.open(settings)
    access.refuse_public_address(services)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        TempFiles.of(settings).clean_in_background()
        yield
        await app.state.events.stop()
        await app.state.services.close()

    app = FastAPI(
        title="VideoMoments",
        version=version("videomoments"),
        lifespan=lifespan,
        docs_url=None,  # api/docs.py
        redoc_url=None,
    )
    app.state.services = services
    app.state.events = StatusHub(services)
    app.state.health = health.Checks()
    app.add_middleware(Conditional)  # the first added is the innermost
    app.add_middleware(Compressed)
    app.add_middleware(Tus, path=uploads.router.prefix)
    access.install(app, settings)
    http_metrics = HttpMetrics()
    app.add_middleware(Observed, metrics=http_metrics)
    app.state.metrics = Metrics(http_metrics)
    problems.install(app)
    openapi.install(app)
    docs.install(app)
    modules = (
        videos,  # those that are asked most
        events,  # before /api/pipeline/status/{video}
        pipeline,
        moments,
        search,
        results,
        captions,
        exports,
        stages,
        uploads,
        objects,
        health,
        metrics,
        admin,
        keys,
        models,
        webhooks,
    )
    routing.add(app, (module.router for module in modules))
    return app
