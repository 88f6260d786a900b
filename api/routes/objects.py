"""Objects of the directory store under their signed URLs, with ranges. With a bucket, Google serves them instead."""

from collections.abc import MutableMapping
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import FileResponse

from api import routing
from api.problems import described, problem
from api.services import Here
from videomoments_dagster.errors import NotFound, StorageError
from videomoments_dagster.storage.directory import DirectoryStore

router = routing.router(tags=["Objects"])


class _ObjectResponse(FileResponse):
    """A file with ranges, whose refusals of a range (400, 416) are problems too."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused = False

        async def checked(message: MutableMapping[str, Any]) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in {400, 416}:
                refused = True
                status, headers = message["status"], dict(message["headers"])
                kept = {"Content-Range": headers[b"content-range"].decode()} if b"content-range" in headers else {}
                title = "The range is outside the object" if status == 416 else "The Range header can't be read"
                await problem(status, "range_not_satisfiable", title, title + ".", headers=kept)(scope, receive, send)
            elif not refused:
                await send(message)

        await super().__call__(scope, receive, checked)


@router.get(
    "/objects/{name:path}",
    summary="Read a stored object",
    operation_id="get_object",
    response_class=FileResponse,
    responses={
        200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes)"}}},
        206: {"description": "The part that `Range` asks for"},
        304: {"description": "`If-None-Match` names what is there"},
        **described(403, 404, 416),
    },
)
@router.head("/objects/{name:path}", include_in_schema=False)
def get_object(
    name: str,
    request: Request,
    here: Here,
    expires: Annotated[int, Query(description="Epoch seconds")],
    signature: Annotated[str, Query(max_length=128, description="Made by this platform")],
) -> Response:
    """The bytes of an object. The URL comes from another operation and carries its own right to be read."""
    store = here.store
    if not isinstance(store, DirectoryStore):
        raise NotFound("Objects are served by the bucket.")
    if not store.verify(request.method, name, expires, signature):
        return problem(
            403,
            "signature_refused",
            "The signature is missing, wrong or expired",
            "This URL is not, or no longer, good.",
        )
    try:
        stored, path = store.require(name), store.path(name)
    except StorageError as error:
        raise NotFound(f"The object {name!r} is not there.", hint="Ask for a fresh URL.") from error
    etag = f'"{stored.generation}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",  # kept, but asked about: a clip that is cut anew has the same URL
        "X-Content-Type-Options": "nosniff",
    }
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if known & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return _ObjectResponse(path, headers=headers, media_type=stored.content_type)
