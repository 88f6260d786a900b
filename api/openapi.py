"""The OpenAPI document: our Problem for every failure, and the schema's example on every answer."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import conditional
from api.access import needed_scope
from api.problems import FieldError, Problem, described

_DESCRIPTION = """Turns a video URL into titled, timestamped moments.

Submit a video, follow its pipeline, read its moments. Failures are `application/problem+json` (RFC 9457) with a
stable `code`, and a `hint` that says what to do. Lists are pages: follow `next_cursor` until it is null."""

_TAGS = {
    "Videos": "Submitted by URL or as a file; listed, played, deleted",
    "Uploads": "Large files in parts that can be resumed: TUS 1.0",
    "Transcripts": "What is said, word by word, and captions of it",
    "Moments": "Found by models, changed by people; exported for players and editors",
    "Clips": "A file for each root moment, and its picture",
    "Search": "In what is said and in titles",
    "Pipeline": "Starting it, following it, cancelling it, its history",
    "Webhooks": "Who is told when a request ends, and what came of it",
    "Objects": "Stored files, by signed URLs",
    "Administration": "Keys, models, temporary files: scope admin",
    "Health": "For load balancers, and for Prometheus",
}
"""In the order of the document."""
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key: `vm_` and 43 characters. None is needed as long as none was made; see docs/access.md.",
}


def install(app: FastAPI) -> None:
    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document


def _document(app: FastAPI) -> dict[str, Any]:
    tags = [{"name": name, "description": about} for name, about in _TAGS.items()]
    schema = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, tags=tags)
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for model in (FieldError, Problem):
        components[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components[model.__name__].pop("$defs", None)
    schema["components"]["securitySchemes"] = {"bearer": _BEARER}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _add_what_stands_before(operation, method.upper(), path)
            conditional.describe(operation, method.upper(), path)
            for content in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media in content.get("content", {}).values():
                    _add_example(media, components)
    return schema


def _add_what_stands_before(operation: dict[str, Any], method: str, path: str) -> None:
    """Every route is behind the checks of api/access.py, and its body behind those of api/body_limits.py."""
    statuses: list[int] = []
    if needed_scope(method, path):
        operation["security"] = [{"bearer": []}]
        statuses += [401, 403, 429]
    if "requestBody" in operation:
        statuses += [408, 413, 415]
    problems = described(*statuses)
    for status in statuses:
        operation["responses"].setdefault(str(status), problems[status])


def _add_example(media: dict[str, Any], components: dict[str, Any]) -> None:
    """A media type's example is that of its schema; a list's is one item."""
    found = media.get("schema", {})
    if "example" in media:
        return
    if example := _example(found, components):
        media["example"] = example
    elif found.get("type") == "array" and (item := _example(found["items"], components)):
        media["example"] = [item]


def _example(schema: dict[str, Any], components: dict[str, Any]) -> Any:
    for option in (schema, *schema.get("anyOf", [])):
        name = option.get("$ref", "").rpartition("/")[2]
        if example := components.get(name, {}).get("example"):
            return example
    return None
