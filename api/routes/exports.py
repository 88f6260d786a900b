"""The moments of a video as a file for spreadsheets, YouTube and editing programs."""

from fractions import Fraction
from typing import Annotated

from fastapi import Query, Response

from api import routing
from api.parameters import VideoId
from api.problems import described
from api.services import Here
from db.models import Video
from db.queries import moments, videos
from db.queries.moments import MomentView
from videomoments_dagster.exports.formats import FORMATS, ExportFormat
from videomoments_dagster.exports.moment_set import ExportedMoment, ExportedVideo, MomentSet

router = routing.router(prefix="/api/videos", tags=["Moments"])

_CONTENT = {
    kind: {"schema": {"type": "string"}, "example": example}
    for kind, example in {
        "application/json": '{"video": {"id": "motivation"}, "moments": []}',
        "text/csv": "id,title,start_time,end_time,start,end,is_refined,parent_id,score,model_name\r\n",
        "text/plain": "0:00 Intro\n1:01 Why small steps work\n2:40 Habits\n",
        "application/xml": '<fcpxml version="1.9"/>',
    }.items()
}


@router.get(
    "/{video}/export",
    summary="Export moments",
    response_class=Response,
    responses={200: {"description": "The file", "content": _CONTENT}, **described(404, 409)},
)
def export_moments(
    video: VideoId,
    here: Here,
    format: Annotated[ExportFormat, Query(description="`chapters`: YouTube; `edl`: CMX 3600")],
    refined: Annotated[
        bool | None,
        Query(description="Only refined moments, or only root ones; otherwise refined ones in place of their roots"),
    ] = None,
) -> Response:
    """In the order of the video. 409 when the format can't hold these moments: fewer than three chapters, or timecode
    past 24 hours."""
    with here.database.read() as session:
        row = videos.require(session, video)
        found = moments.of_video(session, row.id, refined=refined)
    if refined is None:
        replaced = {view.parent_identifier for view in found}
        found = [view for view in found if view.identifier not in replaced]
    chosen = FORMATS[format]
    written = chosen.write(MomentSet(_video(row), [_moment(view) for view in found]))
    return attachment(written, chosen.media_type, f"{video}{chosen.ending}")


def attachment(text: str, media_type: str, name: str) -> Response:
    """A file to be saved. `name` is made of an identifier and an ending: ASCII, without quotes or separators."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.encode(), media_type=media_type, headers=headers)


def _video(row: Video) -> ExportedVideo:
    width, _, height = (row.resolution or "").partition("x")
    return ExportedVideo(
        identifier=row.identifier,
        title=row.title or row.identifier,
        file_name=row.cloud_url.rpartition("/")[2],
        cloud_url=row.cloud_url,
        duration=_exact(row.duration_seconds) if row.duration_seconds is not None else None,
        frame_rate=row.frame_rate,
        width=int(width) if width.isdecimal() else None,
        height=int(height) if height.isdecimal() else None,
        has_video=row.video_codec is not None or row.audio_codec is None,  # neither: nobody has looked yet
        has_audio=row.audio_codec is not None,
    )


def _moment(view: MomentView) -> ExportedMoment:
    return ExportedMoment(
        identifier=view.identifier,
        title=view.title,
        start=_exact(view.start_time),
        end=_exact(view.end_time),
        is_refined=view.is_refined,
        parent_identifier=view.parent_identifier,
        score=view.score,
        model_name=view.generation_model,
    )


def _exact(seconds: float) -> Fraction:
    """The decimal number that is meant: 0.1 is a tenth."""
    return Fraction(repr(seconds))
