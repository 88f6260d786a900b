"""A video's pipeline as server-sent events: what GET .../status answers, at every change of it."""

import time
from typing import Annotated, Any, Literal

import anyio
from fastapi import Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api import routing
from api.access import GRANT
from api.activity import status_of
from api.events import Listener, StatusHub
from api.keys import Grant
from api.parameters import VideoId
from api.problems import described
from videomoments_dagster.identifiers import validate_identifier

router = routing.router(prefix="/api/pipeline", tags=["Pipeline"])

HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 3600.0
"""Then the client is let go, and comes again by itself: its API key may have ended since."""
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_RETRY_MS = 2000
_EXAMPLE = """retry: 2000

event: status
id: 1767268800000-0
data: {"video_id":"motivation","status":"running", …}

: still here

"""
_STREAM: dict[str, Any] = {
    "description": "The stream. The `data` of an event is a `Status`.",
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
}
_END = b"event: end\ndata: {}\n\n"


class EventStream(Response):
    """Sends what `listener` hears until there is no more, the client goes, or, if `until_end`, the pipeline is over: an
    end that it missed, after which something was started again, is none."""

    media_type = "text/event-stream"

    def __init__(self, listener: Listener, *, until_end: bool) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._listener, self._until_end = listener, until_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                await self._send(send)
                tasks.cancel_scope.cancel()
        finally:
            self._listener.close()

    async def _send(self, send: Send) -> None:
        async def body(chunk: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await body(f"retry: {_RETRY_MS}\n\n".encode())
        until = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < until:
            try:
                change = await self._listener.next(HEARTBEAT_SECONDS)
            except StopAsyncIteration:
                break
            await body(change.chunk if change else b": still here\n\n")
            if change and change.is_over and self._until_end and self._listener.is_up_to_date:
                await body(_END)
                break
        await body(b"", more=False)


async def _until_gone(receive: Receive, sending: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()


@router.get(
    "/{video}/events",
    summary="Follow a video's pipeline as events",
    status_code=200,
    response_class=EventStream,
    response_model=None,
    responses={
        200: _STREAM,
        204: {"description": "With `until=end`: the client has seen the end, and need not come again"},
        **described(404),
    },
)
async def follow_pipeline(
    video: VideoId,
    request: Request,
    until: Annotated[
        Literal["end"] | None, Query(description="`end`: close the stream, with the event `end`, when nothing runs")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=100, description="The `id` of the last event seen: what was missed comes first")
    ] = None,
) -> Response:
    """An event `status` now and at every change, with what the status operation answers as its `data`; a comment every
    15 s while nothing changes. The stream stays open when the pipeline is over, for it may be started again; after an
    hour it ends, and browsers open it again by themselves."""
    hub: StatusHub = request.app.state.events
    grant: Grant | None = request.scope.get(GRANT)
    who = grant.identifier if grant else f"address {request.client.host if request.client else ''}"
    listener = await hub.open(video, last_event_id, who=who)
    first = listener.first
    if until and first.is_over and first.identifier is not None and first.identifier == last_event_id:
        listener.close()
        return Response(status_code=204)
    return EventStream(listener, until_end=until is not None)


async def head(request: Request) -> Response:
    """What a GET would begin with. Not left to who answers HEAD by a GET without its body: that has no end."""
    await run_in_threadpool(status_of, request.app.state.services, validate_identifier(request.path_params["video"]))
    return Response(headers=_HEADERS, media_type=EventStream.media_type)


router.add_route(f"{router.prefix}/{{video}}/events", head, methods=["HEAD"], include_in_schema=False)
