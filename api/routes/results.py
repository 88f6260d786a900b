"""What the pipeline made of a video: its transcript, the answers behind its moments, its clips."""

from typing import Annotated, Literal

from fastapi import Path
from fastapi.responses import RedirectResponse

from api import pictures, routing
from api.clips import playable_clip
from api.parameters import MomentId, VideoId
from api.problems import described
from api.schemas.base import SignedUrl
from api.schemas.results import Clip, Transcript, clip, transcript
from api.services import Here
from db.queries import clips, transcripts, videos
from videomoments_dagster.errors import NotFound
from videomoments_dagster.storage import names

router = routing.router()


@router.get(
    "/api/videos/{video}/transcript", summary="Show the transcript", tags=["Transcripts"], responses=described(404)
)
def get_transcript(video: VideoId, here: Here) -> Transcript:
    """The whole text with the times of its words and sentences, in seconds."""
    with here.database.read() as session:
        row = transcripts.get(session, videos.require(session, video).id)
    if row is None:
        raise NotFound(f"Video {video!r} has no transcript yet.", hint="The pipeline makes it; see its status.")
    return transcript(row, video)


@router.get(
    "/api/videos/{video}/answers/{asset}",
    summary="Download a model's raw answers",
    tags=["Moments"],
    status_code=302,
    response_class=RedirectResponse,
    responses=described(404),
)
def get_answers(
    video: VideoId,
    asset: Annotated[Literal["moments", "refined_moments", "scores"], Path(description="The asset derived from them")],
    here: Here,
) -> RedirectResponse:
    """Redirects to a signed URL of gzip'd JSON: every question, its answer, and what it took to derive the rows."""
    with here.database.read() as session:
        videos.require(session, video)
    name = names.answers(video, asset)
    if here.store.stat(name) is None:
        raise NotFound(f"No answers are kept for {asset} of video {video!r}.", hint="The pipeline keeps them.")
    return RedirectResponse(here.sign(here.store.cloud_url(name)), status_code=302)


@router.get("/api/videos/{video}/clips", summary="List clips", tags=["Clips"], responses=described(404))
def list_clips(video: VideoId, here: Here) -> list[Clip]:
    """In the order of the video."""
    with here.database.read() as session:
        found = clips.of_video(session, videos.require(session, video).id)
    return [clip(each, here) for each in found]


@router.get("/api/clips/{moment}/url", summary="Sign a clip's URL", tags=["Clips"], responses=described(404, 409))
def get_clip_url(moment: MomentId, here: Here) -> SignedUrl:
    """A fresh URL of the moment's clip: its own, or its parent's when it is refined."""
    return here.sign_fresh(playable_clip(here, moment).cloud_url)


@router.get(
    "/api/clips/{moment}/stream",
    summary="Play a clip",
    tags=["Clips"],
    status_code=302,
    response_class=RedirectResponse,
    responses=described(404, 409),
)
def stream_clip(moment: MomentId, here: Here) -> RedirectResponse:
    """Redirects to a signed URL of the file; it answers range requests."""
    return RedirectResponse(here.sign(playable_clip(here, moment).cloud_url), status_code=302)


@router.get(
    "/api/clips/{moment}/thumbnail",
    summary="Show a clip's picture",
    tags=["Clips"],
    status_code=302,
    response_class=RedirectResponse,
    responses=described(404, 409),
)
async def show_clip_thumbnail(moment: MomentId, here: Here) -> RedirectResponse:
    """Redirects to a signed URL of the JPEG, which is made when it is missing."""
    return RedirectResponse(await pictures.of_clip(here, moment), status_code=302)
