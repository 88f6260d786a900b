"""Uploads that can be interrupted and gone on with, by TUS 1.0.0: https://tus.io/protocols/resumable-upload."""

import uuid
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request, Response

from api import resumable, routing, tus
from api.access import GRANT
from api.problems import described, problem_of
from api.receiving import to_the_end
from api.resumable import ResumableUpload
from api.schemas.uploads import Upload, upload
from api.services import Here
from api.tus import Checksum, UnsupportedMedia
from videomoments_dagster.errors import InvalidInput, VideoMomentsError

router = routing.router(prefix="/api/uploads", tags=["Uploads"])

UploadId = Annotated[uuid.UUID, Path(description="The last part of the `Location` that the upload was made with")]
Offset = Annotated[str | None, Header(alias="Upload-Offset", description="Where the bytes come to be")]
Sum = Annotated[
    str | None,
    Header(alias="Upload-Checksum", description=f"One of {', '.join(tus.ALGORITHMS)}, a space, the digest in base64"),
]
Metadata = Annotated[
    str | None,
    Header(
        alias="Upload-Metadata",
        description="Pairs of a key and a value in base64, with commas between: `filename`, `title`, `identifier`,"
        " `config` (JSON), `idempotency_key`, `webhook_url`, `webhook_secret`",
        examples=["filename dGFsay5tcDQ=,title QSB0YWxr"],
    ),
]


def _version(_: Annotated[str, Header(alias="Tus-Resumable", examples=[tus.VERSION])]) -> None:
    """Read by `tus.Tus`, before anything else is."""


_PROTOCOL = [Depends(_version)]
_BODY = {
    "requestBody": {
        "content": {
            tus.MEDIA_TYPE: {
                "schema": {"type": "string", "format": "binary"},
                "example": "(bytes of talk.mp4)",
            }
        }
    }
}


def _answers(status: int, description: str, *headers: str) -> dict[int | str, dict[str, Any]]:
    named = {name: {"schema": {"type": "string"}} for name in ("Tus-Resumable", *headers)}
    return {status: {"description": description, "headers": named}}


@router.options(
    "",
    summary="Show what uploads can do",
    status_code=204,
    response_class=Response,
    responses={
        **_answers(204, "In the headers", "Tus-Version", "Tus-Max-Size", "Tus-Extension", "Tus-Checksum-Algorithm"),
        **described(),
    },
)
async def get_upload_options(here: Here) -> Response:
    """The versions and extensions of TUS that are spoken, and the largest file."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": tus.VERSION,
            "Tus-Max-Size": str(here.settings.max_download_bytes),
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
        },
    )


@router.post(
    "",
    summary="Begin an upload",
    dependencies=_PROTOCOL,
    status_code=201,
    response_class=Response,
    openapi_extra=_BODY,
    responses={
        **_answers(201, "It is at `Location`", "Location", "Upload-Offset", "Upload-Expires"),
        **described(400, 408, 409, 412, 413, 415, 423, 429, 460),
    },
)
async def create_upload(
    request: Request,
    here: Here,
    upload_length: Annotated[
        str | None, Header(alias="Upload-Length", description="Bytes of the whole file", examples=["73411220"])
    ] = None,
    upload_metadata: Metadata = None,
    upload_checksum: Sum = None,
) -> Response:
    """The file comes with PATCH, or its beginning at once as the body. It is submitted when its last byte is there."""
    for header in ("Upload-Defer-Length", "Upload-Concat"):
        if header in request.headers:
            raise InvalidInput(f"{header} is of an extension of TUS that is not spoken here.")
    length = tus.parse_bytes("Upload-Length", upload_length)
    if length == 0:
        raise InvalidInput("The file is empty.")
    announced, checksum = _announced(request), Checksum.parse(upload_checksum)
    has_body = announced != 0
    if has_body:
        _check_media_type(request)
    made = await to_the_end(resumable.create, here, length, upload_metadata or "", _owner(request))
    location = {"Location": f"{router.prefix}/{made.upload_id}"}
    if not has_body:
        return Response(status_code=201, headers=location | _headers(made))
    try:
        made = await resumable.receive(
            here, made.upload_id, request.stream(), offset=0, announced=announced, checksum=checksum
        )
    except VideoMomentsError as error:
        answer = problem_of(error)
        answer.headers.update(location)
        return answer
    return Response(status_code=201, headers=location | _headers(made))


@router.head(
    "/{upload_id}",
    summary="Ask how far an upload is",
    dependencies=_PROTOCOL,
    response_class=Response,
    responses={
        **_answers(200, "In the headers", "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires"),
        **described(404, 412),
    },
)
def get_upload_offset(upload_id: UploadId, here: Here) -> Response:
    """`Upload-Offset` of `Upload-Length` bytes are there: go on with the byte after them."""
    found = resumable.submit_if_complete(here, resumable.find(here, str(upload_id)))
    shown = tus.without_secret(found.metadata)
    metadata = {"Upload-Metadata": shown} if shown else {}
    return Response(headers=_headers(found) | {"Upload-Length": str(found.length)} | metadata)


@router.patch(
    "/{upload_id}",
    summary="Go on with an upload",
    dependencies=_PROTOCOL,
    status_code=204,
    response_class=Response,
    openapi_extra=_BODY,
    responses={
        **_answers(
            204,
            "The bytes are kept; after the last one, the headers name the video and the request",
            "Upload-Offset",
            "Upload-Expires",
            "Content-Location",
            "VideoMoments-Video-Id",
            "VideoMoments-Request-Id",
        ),
        **described(400, 404, 408, 409, 412, 413, 415, 423, 460),
    },
)
async def append_to_upload(
    request: Request,
    upload_id: UploadId,
    here: Here,
    upload_offset: Offset = None,
    upload_checksum: Sum = None,
    upload_metadata: Metadata = None,
) -> Response:
    """What came before the connection broke is kept, unless it had a checksum. When the file is whole but can't be
    submitted (409, 422, 503), an empty PATCH at its end tries again; with `Upload-Metadata`, as that says."""
    _check_media_type(request)
    found = await resumable.receive(
        here,
        str(upload_id),
        request.stream(),
        offset=tus.parse_bytes("Upload-Offset", upload_offset),
        announced=_announced(request),
        checksum=Checksum.parse(upload_checksum),
        metadata=upload_metadata,
    )
    return Response(status_code=204, headers=_headers(found))


@router.get("/{upload_id}", summary="Show an upload", responses=described(404))
def get_upload(upload_id: UploadId, here: Here) -> Upload:
    """How far it is, and which video it became."""
    return upload(resumable.find(here, str(upload_id)))


@router.delete(
    "/{upload_id}",
    summary="Give an upload up",
    dependencies=_PROTOCOL,
    status_code=204,
    response_class=Response,
    responses={**_answers(204, "It is gone"), **described(404, 412, 423)},
)
async def delete_upload(upload_id: UploadId, here: Here) -> Response:
    """Forgets what has come. A video that it became stays."""
    await resumable.remove(here, str(upload_id))
    return Response(status_code=204)


def _headers(found: ResumableUpload) -> dict[str, str]:
    headers = {"Upload-Offset": str(found.offset), "Upload-Expires": tus.http_date(found.expires_at)}
    if found.submitted:
        headers["Content-Location"] = f"/api/pipeline/{found.submitted.video_id}/status"
        headers["VideoMoments-Video-Id"] = found.submitted.video_id
        headers["VideoMoments-Request-Id"] = found.submitted.request_id or ""
    return headers


def _owner(request: Request) -> str:
    """The key's identifier; where none is needed, the client's address."""
    if grant := request.scope.get(GRANT):
        return grant.identifier
    return request.client.host if request.client else ""


def _announced(request: Request) -> int | None:
    """Bytes of the body; None when it comes in chunks of unknown number."""
    length = request.headers.get("content-length")
    if length is None:
        return None if "transfer-encoding" in request.headers else 0
    return tus.parse_bytes("Content-Length", length)


def _check_media_type(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != tus.MEDIA_TYPE:
        raise UnsupportedMedia(f"The body's Content-Type is not {tus.MEDIA_TYPE}.")
