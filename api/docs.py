"""`/docs`: the operations in Swagger UI, whose files come from here: it works without the internet, and nobody else
learns who reads it."""

from importlib.resources import files
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from videomoments_dagster.errors import NotFound

ASSETS: Final = "/docs/assets/{name}"
_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_UI = {"filter": True, "displayRequestDuration": True, "docExpansion": "list", "defaultModelsExpandDepth": 0}


def install(app: FastAPI) -> None:
    """Serve the page, its files, and a redirect to it from `/`."""
    resources = files("fastapi_swagger") / "resources"

    @app.get("/", include_in_schema=False)
    async def index() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",  # relative: the page may be served under a prefix
            title=app.title,
            swagger_js_url="docs/assets/swagger-ui-bundle.js",
            swagger_css_url="docs/assets/swagger-ui.css",
            swagger_favicon_url="docs/assets/favicon-32x32.png",
            swagger_ui_parameters=_UI,
        )

    @app.get(ASSETS, include_in_schema=False)
    async def docs_asset(name: str) -> FileResponse:
        if name not in _FILES:
            raise NotFound(f"There is no {name!r} here.")
        headers = {"Cache-Control": "public, max-age=86400"}
        return FileResponse(str(resources / name), media_type=_FILES[name], headers=headers)
