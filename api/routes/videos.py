"""Videos: submitting, listing, playing, deleting."""

import uuid
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.responses import RedirectResponse

from api import deletion, forms, pictures, routing, submission, uploads
from api.parameters import Cursor, IdempotencyKey, Limit, VideoId
from api.problems import described
from api.receiving import to_the_end
from api.schemas.base import SignedUrl
from api.schemas.videos import (
    DeletionReceipt,
    Submitted,
    SubmitVideo,
    VideoDetails,
    VideoPage,
    submitted,
    video_details,
    video_page,
)
from api.services import Here
from db.queries import videos
from db.queries.paging import DEFAULT_LIMIT
from videomoments_dagster.temp_files import UPLOADS, TempFiles

router = routing.router(prefix="/api/videos", tags=["Videos"])

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "The video"},
                        "title": {"type": "string", "maxLength": 500},
                        "identifier": {"type": "string", "description": "1 to 100 letters, digits, '-' and '_'"},
                        "config": {"type": "string", "description": "The `config` of a submission, as JSON"},
                        "webhook_url": {"type": "string", "description": "As of a submission"},
                        "webhook_secret": {"type": "string", "description": "As of a submission", "writeOnly": True},
                    },
                },
                "example": {"file": "(the bytes of talk.mp4)", "title": "A talk"},
            }
        },
    }
}


@router.get("", summary="List videos", responses=described())
async def list_videos(
    here: Here,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of the title or identifier, in any case")] = None,
    has_moments: Annotated[bool | None, Query(description="Only videos with, or without, moments")] = None,
) -> VideoPage:
    """Newest first, a page at a time."""
    page = await here.database.run(videos.page(limit=limit, cursor=cursor, q=q, has_moments=has_moments))
    return await here.shown(video_page, page)


@router.post("", summary="Submit a URL", status_code=202, responses={200: {"model": Submitted}, **described(409)})
def submit_video(
    body: SubmitVideo, response: Response, here: Here, idempotency_key: IdempotencyKey = None
) -> Submitted:
    """Fetches the video and runs the whole pipeline on it. 200 when this URL has been processed; 409 while it is."""
    config = body.config.model_copy(update={"title": body.title}) if body.title else body.config
    made = submission.submit_url(
        here,
        body.url,
        identifier=body.identifier,
        config=config,
        idempotency_key=idempotency_key,
        webhook=body.webhook(here.settings),
    )
    if made.already_processed:
        response.status_code = 200
    return submitted(made)


@router.post(
    "/upload",
    summary="Submit a file",
    status_code=202,
    responses=described(408, 409, 413, 429),
    openapi_extra=_FORM,
)
async def upload_video(request: Request, here: Here, idempotency_key: IdempotencyKey = None) -> Submitted:
    """Stores the file and runs the whole pipeline on it. It is written to disk as it arrives."""
    request_id = str(uuid.uuid4())
    temp = TempFiles.of(here.settings)
    announced = request.headers.get("content-length", "")
    async with (
        forms.room(here, int(announced) if announced.isdecimal() else None) as came,
        contextmanager_in_threadpool(temp.directory(UPLOADS, request_id)) as directory,
    ):
        file, fields = await uploads.receive(request, directory, here.settings.max_download_bytes, came)
        wishes = uploads.Wishes.parse(fields | {"idempotency_key": idempotency_key or ""})
        return submitted(await to_the_end(uploads.submit, here, file, wishes, request_id))


@router.get("/{video}", summary="Show a video", responses=described(404))
async def get_video(video: VideoId, here: Here) -> VideoDetails:
    """Every column, and how much there is of what."""
    return await here.shown(video_details, await here.database.run(videos.overview(video)))


@router.get("/{video}/url", summary="Sign the video's URL", responses=described(404))
def get_video_url(video: VideoId, here: Here) -> SignedUrl:
    """A fresh URL of the stored file, good for `expires_in_seconds`."""
    return here.sign_fresh(_cloud_url(video, here))


@router.get(
    "/{video}/stream",
    summary="Play a video",
    status_code=302,
    response_class=RedirectResponse,
    responses=described(404),
)
def stream_video(video: VideoId, here: Here) -> RedirectResponse:
    """Redirects to a signed URL of the file; it answers range requests."""
    return RedirectResponse(here.sign(_cloud_url(video, here)), status_code=302)


@router.get(
    "/{video}/thumbnail",
    summary="Show a video's thumbnail",
    status_code=302,
    response_class=RedirectResponse,
    responses=described(404),
)
async def get_video_thumbnail(video: VideoId, here: Here) -> RedirectResponse:
    """Redirects to a signed URL of the picture, which is made when it is missing."""
    return RedirectResponse(await pictures.of_video(here, video), status_code=302)


@router.delete(
    "/{video}",
    summary="Delete a video",
    status_code=204,
    response_model=None,
    responses={200: {"model": DeletionReceipt, "description": "What was removed"}, **described(404, 409)},
)
async def delete_video(
    video: VideoId,
    here: Here,
    force: Annotated[bool, Query(description="Cancel what is queued or running first, and wait for its end")] = False,
    prefer: Annotated[
        str | None, Header(description="`return=representation` (RFC 7240): answer with what was removed")
    ] = None,
) -> Response:
    """Removes rows, stored objects, temp files, live state, requests and the Dagster partition. After a failure the
    same call finishes it. 409 while a request is active; with `force`, while what it cancelled has not ended yet."""
    removed = await deletion.delete_video(here, video, force=force)
    if not _wants_representation(prefer):
        return Response(status_code=204)
    receipt = DeletionReceipt.model_validate(removed, from_attributes=True)
    return Response(
        receipt.model_dump_json(),
        media_type="application/json",
        headers={"Preference-Applied": "return=representation"},
    )


def _wants_representation(prefer: str | None) -> bool:
    wishes = {wish.partition(";")[0].replace(" ", "").lower() for wish in (prefer or "").split(",")}
    return "return=representation" in wishes


def _cloud_url(identifier: str, here: Here) -> str:
    with here.database.read() as session:
        return videos.require(session, identifier).cloud_url
