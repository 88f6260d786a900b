"""What is said as captions, for players: WebVTT and SubRip."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from fastapi import Query, Response

from api import routing
from api.parameters import VideoId
from api.problems import described
from api.routes.exports import attachment
from api.services import Here
from db.queries import moments, transcripts, videos
from videomoments_dagster.errors import NotFound
from videomoments_dagster.exports.caption_files import SRT, VTT, to_srt, to_vtt
from videomoments_dagster.exports.captions import Cue, to_cues, words_of

router = routing.router(prefix="/api/videos", tags=["Transcripts"])

MomentOfVideo = Annotated[
    str | None,
    Query(
        pattern="^[0-9a-f]{1,20}$",
        description="Only what is said in this moment's clip, with times of the clip",
        examples=["9f86d081884c7d65"],
    ),
]


def _file(media_type: str, example: str) -> dict[str, Any]:
    kind = media_type.partition(";")[0]
    content = {kind: {"schema": {"type": "string"}, "example": example}}
    return {
        "response_class": Response,
        "responses": {200: {"description": "The file", "content": content}, **described(404)},
    }


@router.get(
    "/{video}/transcript.vtt",
    summary="Download captions as WebVTT",
    **_file(VTT, "WEBVTT\n\n00:00:00.000 --> 00:00:00.900\nHello there.\n"),
)
def get_captions_vtt(video: VideoId, here: Here, moment: MomentOfVideo = None) -> Response:
    """Cues of one or two lines that can be read while they are shown, cut from the times of the words."""
    return _captions(here, video, moment, to_vtt, VTT, "vtt")


@router.get(
    "/{video}/transcript.srt",
    summary="Download captions as SubRip",
    **_file(SRT, "1\n00:00:00,000 --> 00:00:00,900\nHello there.\n"),
)
def get_captions_srt(video: VideoId, here: Here, moment: MomentOfVideo = None) -> Response:
    """The same cues for players that read no WebVTT."""
    return _captions(here, video, moment, to_srt, SRT, "srt")


def _captions(
    here: Here, video: str, moment: str | None, write: Callable[[Iterable[Cue]], str], media_type: str, ending: str
) -> Response:
    start, end = 0.0, None
    with here.database.read() as session:
        video_id = videos.require(session, video).id
        if moment is not None:
            view = moments.view(session, moment)
            if view is None or view.video_id != video_id:
                raise NotFound(f"Video {video!r} has no moment {moment!r}.")
            shown = view.clip or view
            start, end = shown.start_time, shown.end_time
        row = transcripts.get(session, video_id)
    if row is None:
        raise NotFound(f"Video {video!r} has no transcript yet.", hint="The pipeline makes it; see its status.")
    words = words_of(row.word_timestamps, row.segment_timestamps, start_seconds=start, end_seconds=end)
    name = f"{video}.{moment}.{ending}" if moment else f"{video}.{ending}"
    return attachment(write(to_cues(words)), media_type, name)
