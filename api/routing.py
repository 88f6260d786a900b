"""What every router of the API shares, and how their routes are found: in one list, the ones that are asked most first.

FastAPI's own `include_router` keeps routers apart, and looks through each twice for every request.
"""

from collections.abc import Iterable

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from api.parameters import only_known_query


def router(prefix: str = "", *, tags: Iterable[str] = ()) -> APIRouter:
    """Refuses unknown query parameters; an operation's id is its function's name: stable for generated clients,
    whatever the path."""
    return APIRouter(
        prefix=prefix,
        tags=list(tags),
        dependencies=[Depends(only_known_query)],
        generate_unique_id_function=_operation_id,
    )


def add(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """The first route that fits a path answers."""
    for each in routers:
        app.router.routes.extend(each.routes)


def _operation_id(route: APIRoute) -> str:
    return route.name
