"""What the pipeline made of a video: its transcript, moments and clips."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import RedirectResponse

from api import submission
from api.parameters import IdempotencyKey, MomentId, VideoId
from api.problems import described
from api.schemas.base import SignedUrl
from api.schemas.pipeline import RefineMoment, Started
from api.schemas.results import Clip, Moment, Transcript, clip, moment, transcript
from api.services import Here
from db.queries import clips, moments, transcripts, videos
from db.queries.clips import ClipView
from videomoments_dagster.errors import NotFound
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.storage import names

router = APIRouter()


@router.get(
    "/api/videos/{video}/transcript", summary="Show the transcript", tags=["Transcripts"], responses=described(404)
)
def get_transcript(video: VideoId, here: Here) -> Transcript:
    """The whole text with the times of its words and sentences, in seconds."""
    with here.database.session() as session:
        row = transcripts.get(session, videos.require(session, video).id)
    if row is None:
        raise NotFound(f"Video {video!r} has no transcript yet.", hint="The pipeline makes it; see its status.")
    return transcript(row, video)


@router.get("/api/videos/{video}/moments", summary="List moments", tags=["Moments"], responses=described(404))
def list_moments(
    video: VideoId,
    here: Here,
    refined: Annotated[bool | None, Query(description="Only refined moments, or only root ones")] = None,
) -> list[Moment]:
    """In the order of the video; a moment comes before the one that refines it."""
    with here.database.session() as session:
        found = moments.of_video(session, videos.require(session, video).id, refined=refined)
    return [moment(each, here) for each in found]


@router.post(
    "/api/videos/{video}/moments/{moment}/refine",
    summary="Refine one moment",
    tags=["Moments"],
    status_code=202,
    responses=described(404, 409),
)
def refine_moment(
    video: VideoId,
    moment: MomentId,
    here: Here,
    body: RefineMoment | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Started:
    """Its boundaries anew, and its score; the others stay as they are. A refined moment stands for its parent. 409
    while a request is active."""
    config = body.config if body else PipelineConfig.parse({})
    started = submission.refine(here, video, moment, config, idempotency_key)
    return Started(
        video_id=video,
        request_id=started.request_id or "",
        pipeline_type=PipelineType.REFINEMENT_ONLY,
        status_url=f"/api/pipeline/{video}/status",
    )


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
    with here.database.session() as session:
        videos.require(session, video)
    name = names.answers(video, asset)
    if here.store.stat(name) is None:
        raise NotFound(f"No answers are kept for {asset} of video {video!r}.", hint="The pipeline keeps them.")
    return RedirectResponse(here.store.signed_url(name), status_code=302)


@router.get("/api/videos/{video}/clips", summary="List clips", tags=["Clips"], responses=described(404))
def list_clips(video: VideoId, here: Here) -> list[Clip]:
    """In the order of the video."""
    with here.database.session() as session:
        found = clips.of_video(session, videos.require(session, video).id)
    return [clip(each, here) for each in found]


@router.get("/api/clips/{moment}/url", summary="Sign a clip's URL", tags=["Clips"], responses=described(404))
def get_clip_url(moment: MomentId, here: Here) -> SignedUrl:
    """A fresh URL of the moment's clip: its own, or its parent's when it is refined."""
    return SignedUrl(url=_clip_url(moment, here), expires_in_seconds=here.settings.signed_url_seconds)


@router.get(
    "/api/clips/{moment}/stream",
    summary="Play a clip",
    tags=["Clips"],
    status_code=302,
    response_class=RedirectResponse,
    responses=described(404),
)
def stream_clip(moment: MomentId, here: Here) -> RedirectResponse:
    """Redirects to a signed URL of the file; it answers range requests."""
    return RedirectResponse(_clip_url(moment, here), status_code=302)


@router.get(
    "/api/clips/{moment}/thumbnail",
    summary="Show a clip's picture",
    tags=["Clips"],
    status_code=302,
    response_class=RedirectResponse,
    responses=described(404),
)
def show_clip_thumbnail(moment: MomentId, here: Here) -> RedirectResponse:
    """Redirects to a signed URL of the JPEG."""
    picture = _clip(moment, here).thumbnail_cloud_url
    if picture is None:
        raise NotFound(f"The clip of moment {moment!r} has no picture yet.", hint="The pipeline makes it last.")
    return RedirectResponse(here.sign(picture), status_code=302)


def _clip_url(identifier: str, here: Here) -> str:
    return here.sign(_clip(identifier, here).cloud_url)


def _clip(identifier: str, here: Here) -> ClipView:
    with here.database.session() as session:
        view = moments.view(session, identifier)
    if view is None:
        raise NotFound(f"There is no moment {identifier!r}.")
    if view.clip is None:
        raise NotFound(f"Moment {identifier!r} has no clip yet.", hint="The pipeline makes it; see its status.")
    return view.clip
