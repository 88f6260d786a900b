"""The moments of a video: listing them, making and changing them by hand, refining one, cutting its clip."""

from typing import Annotated

from fastapi import Query, Response

from api import editing, routing, submission
from api.conditional import IfMatch
from api.parameters import IdempotencyKey, MomentId, VideoId
from api.problems import described
from api.schemas.moments import MomentChange, NewMoment
from api.schemas.pipeline import RefineMoment, Started
from api.schemas.results import Moment
from api.schemas.results import moment as shown
from api.schemas.results import moments as shown_all
from api.services import Here
from api.submission import Submission
from db.queries import moments, videos
from videomoments_dagster.requests.config import PipelineConfig

router = routing.router(prefix="/api/videos/{video}/moments", tags=["Moments"])
_ETAG = {"ETag": {"description": "For `If-Match`, `If-None-Match`", "schema": {"type": "string"}}}
_LOCATION = {"Location": {"description": "The moment's path", "schema": {"type": "string"}}}


@router.get("", summary="List moments", responses=described(404))
async def list_moments(
    video: VideoId,
    here: Here,
    refined: Annotated[bool | None, Query(description="Only refined moments, or only root ones")] = None,
) -> list[Moment]:
    """In the order of the video; a moment comes before the one that refines it."""
    found = await here.database.run(moments.of_named_video(video, refined=refined))
    if not found:
        await here.database.run(videos.existing(video))
    return await here.shown(shown_all, found, items=len(found))


@router.post(
    "",
    summary="Add a moment by hand",
    status_code=201,
    responses={
        200: {"model": Moment, "description": "The same moment was there already", "headers": _ETAG},
        201: {"headers": _ETAG | _LOCATION},
        **described(404, 409),
    },
)
def add_moment(video: VideoId, body: NewMoment, response: Response, here: Here) -> Moment:
    """A person's moment: no model replaces it. It has no clip until clips are cut. The same title at the same times
    again is answered with the moment that is there (200), so that the request can be repeated."""
    added, is_new = editing.add(here, video, title=body.title, start_time=body.start_time, end_time=body.end_time)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/api/videos/{video}/moments/{added.identifier}"
    response.headers["ETag"] = editing.tag_of(added)
    return shown(added, here)


@router.get("/{moment}", summary="Show a moment", responses={200: {"headers": _ETAG}, **described(404)})
def get_moment(video: VideoId, moment: MomentId, response: Response, here: Here) -> Moment:
    """Its `ETag` is for `If-Match`: it is another one after every change."""
    with here.database.read() as session:
        found = moments.require(session, videos.require(session, video), moment)
    response.headers["ETag"] = editing.tag_of(found)
    return shown(found, here)


@router.patch("/{moment}", summary="Change a moment", responses={200: {"headers": _ETAG}, **described(404, 412)})
def change_moment(
    video: VideoId,
    moment: MomentId,
    body: MomentChange,
    response: Response,
    here: Here,
    if_match: IfMatch = None,
) -> Moment:
    """Its title, its times; no model changes or removes it after that. Times of a root moment that change take a
    model's refinement of the old ones with them. Where the clip does not show the new times, `clip_url` is null until
    it is cut again: POST to the moment's `clip`."""
    changed = editing.change(here, video, moment, body.given, if_match)
    response.headers["ETag"] = editing.tag_of(changed)
    return shown(changed, here)


@router.delete(
    "/{moment}",
    summary="Delete a moment",
    status_code=204,
    response_model=None,
    responses=described(404, 412),
)
def delete_moment(video: VideoId, moment: MomentId, here: Here, if_match: IfMatch = None) -> None:
    """With its clip, its picture and, of a root moment, its refinements, a person's too. One that a model found may be
    found again when moments are generated anew."""
    editing.remove(here, video, moment, if_match)


@router.post("/{moment}/refine", summary="Refine one moment", status_code=202, responses=described(404, 409))
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
    return _started(submission.refine(here, video, moment, config, idempotency_key))


@router.post("/{moment}/clip", summary="Cut one clip", status_code=202, responses=described(404, 409))
def cut_clip(video: VideoId, moment: MomentId, here: Here, idempotency_key: IdempotencyKey = None) -> Started:
    """The moment's clip and its picture, at the times it has now; the others stay as they are. A clip that fits still
    is kept. A refined moment stands for its parent, whose clip it plays from. 409 while a request is active."""
    return _started(submission.cut(here, video, moment, idempotency_key))


def _started(started: Submission) -> Started:
    return Started(
        video_id=started.video_id,
        request_id=started.request_id or "",
        pipeline_type=started.pipeline_type,
        status_url=f"/api/pipeline/{started.video_id}/status",
    )
