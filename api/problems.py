"""Errors as RFC 9457 problems: one shape for everything that is not a success, and its place in the OpenAPI."""

import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from videomoments_dagster.errors import Conflict, InvalidInput, RateLimited, Unauthorized, VideoMomentsError

MEDIA_TYPE = "application/problem+json"
_CHECKSUM_MISMATCH = 460  # of TUS; not in http.HTTPStatus


class FieldError(BaseModel):
    """`field` is where, such as `body.url` or `query.limit`."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457, with our `code`, `hint` and `retryable`, and what concerns the case: `errors`, `request_id`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    retryable: bool
    errors: list[FieldError] | None = None
    request_id: str | None = None


class PipelineActive(Conflict):
    """A request for this video waits or runs; `request_id` names it (a run id when it was started in the UI)."""

    code, title = "pipeline_active", "The video is being processed"

    def __init__(self, video: str, request_id: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"Video {video!r} is being processed (request {request_id}).",
            hint=hint or f"Follow it at /api/pipeline/{video}/status, and try again when it has ended.",
        )
        self.request_id = request_id


def problem(
    status: int, code: str, title: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The response itself. `more`: hint, retryable, errors, request_id."""
    body = {
        "type": f"urn:videomoments:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": "",
        "retryable": False,
    }
    return JSONResponse(body | more, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def problem_of(error: VideoMomentsError) -> JSONResponse:
    more: dict[str, Any] = {"hint": error.hint, "retryable": error.retryable}
    if isinstance(error, PipelineActive):
        more["request_id"] = error.request_id
    headers = {"Retry-After": "5"} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    if isinstance(error, RateLimited):
        headers = {"Retry-After": str(math.ceil(error.retry_after_seconds))}
    elif isinstance(error, Unauthorized):
        headers = {"WWW-Authenticate": "Bearer"}
    return problem(error.status, error.code, error.title, error.message, headers=headers, **more)


def defect() -> JSONResponse:
    """What those who ask are told of an error that nobody expected."""
    hint = "The API's log says more: look there for the answer's X-Request-ID."
    return problem(500, "internal_error", "Internal error", "A defect of VideoMoments.", hint=hint)


def install(app: FastAPI) -> None:
    """Make every expected failure of `app` a problem; the others are for api/observing.py."""

    @app.exception_handler(VideoMomentsError)
    def _known(_request: Request, error: VideoMomentsError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"field": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in error.errors()]
        detail = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
        unknown = any(each["type"] == "extra_forbidden" for each in error.errors())
        hint = "Leave out what is not known; /docs lists the fields." if unknown else ""
        return problem(422, "invalid_input", "The input is not valid", detail, errors=errors, hint=hint)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        if isinstance(error.__cause__, (ValueError, RecursionError)):  # FastAPI says 400 of a body that json can't read
            return problem_of(InvalidInput("The body is not JSON in UTF-8, or goes too deep.", hint="See /docs."))
        detail = f"{request.method} {request.url.path}: {status.description or status.phrase}."
        headers = dict(error.headers) if error.headers else None
        return problem(status, status.name.lower(), status.phrase, detail, headers=headers, hint="See /docs.")


_DESCRIPTIONS = {
    400: "Not what the protocol allows",
    401: "An API key is needed",
    403: "The API key's scope is too small, or the signature is missing, wrong or expired",
    404: "There is no such thing",
    408: "Nothing came for too long",
    409: "True of the request, false of the state it meets",
    412: "It was changed since it was read",
    413: "Too large",
    415: "Not a media type that is read here",
    416: "The range is outside the object",
    422: "The input is not valid",
    423: "Somebody else sends to it",
    429: "Too many requests",
    460: "The checksum does not fit what came",
    500: "A defect of VideoMoments",
    502: "The model refuses, or makes no sense",
    503: "PostgreSQL, Redis or the object store does not answer",
}


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of an operation: these problems, and those that any operation can answer with."""
    return {status: _description(status) for status in sorted({*statuses, 422, 500, 503})}


def _description(status: int) -> dict[str, Any]:
    title = HTTPStatus(status).phrase if status != _CHECKSUM_MISMATCH else "Checksum Mismatch"
    code = title.lower().replace(" ", "_").replace("-", "_")
    example = {
        "type": f"urn:videomoments:problem:{code}",
        "title": title,
        "status": status,
        "detail": _DESCRIPTIONS[status] + ".",
        "code": code,
        "hint": "",
        "retryable": status == HTTPStatus.SERVICE_UNAVAILABLE,
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    return {"description": _DESCRIPTIONS[status], "content": content}
