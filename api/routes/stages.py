"""Single stages of a video's pipeline: doing them again, and how far they are."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import Body

from api import routing
from api.activity import status_of
from api.again import again, generate
from api.parameters import IdempotencyKey, VideoId
from api.problems import described
from api.schemas.pipeline import Started
from api.schemas.stages import ExtractClips, GenerateMoments, StageProgress, stage_progress
from api.services import Here
from api.submission import Submission
from db.queries import videos
from db.queries.videos import VideoOverview
from videomoments_dagster.errors import NotFound
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType, Stage

router = routing.router(prefix="/api")
_Config = Annotated[
    PipelineConfig | None,
    Body(description="What to do otherwise than the newest request said"),
]
_STARTS: dict[str, Any] = {"status_code": 202, "responses": described(404, 409)}


@router.post("/videos/{video}/process-transcript", summary="Hear a video again", tags=["Transcripts"], **_STARTS)
def process_transcript(
    video: VideoId, here: Here, body: _Config = None, idempotency_key: IdempotencyKey = None
) -> Started:
    """Its sound and its transcript anew; moments stay as they are. 409 while a request is active."""
    return _started(again(here, video, PipelineType.TRANSCRIPT_ONLY, body or _nothing(), idempotency_key))


@router.post("/videos/{video}/generate-moments", summary="Find moments again", tags=["Moments"], **_STARTS)
def generate_moments(
    video: VideoId, here: Here, body: _Config = None, idempotency_key: IdempotencyKey = None
) -> Started:
    """In the transcript that is there; what a person made or changed stays. 409 while a request is active."""
    return _started(again(here, video, PipelineType.MOMENTS_ONLY, body or _nothing(), idempotency_key))


@router.post("/videos/{video}/extract-clips", summary="Cut clips", tags=["Clips"], **_STARTS)
def extract_clips(
    video: VideoId, here: Here, body: ExtractClips | None = None, idempotency_key: IdempotencyKey = None
) -> Started:
    """Those that are missing or no longer fit their moments, and their pictures. 409 while a request is active."""
    config = PipelineConfig.parse(body.model_dump(exclude_none=True) if body else {})
    return _started(again(here, video, PipelineType.CLIPS_ONLY, config, idempotency_key))


@router.post(
    "/generate_moments",
    summary="Find the moments of a URL",
    tags=["Pipeline"],
    status_code=202,
    responses=described(409),
)
def generate_moments_of_url(here: Here, body: GenerateMoments, idempotency_key: IdempotencyKey = None) -> Started:
    """All in one: a new URL goes through the whole pipeline; of one that was heard already the moments are found anew,
    as `config` says. 409 while a request for that video is active."""
    return _started(generate(here, body.url, body.config, idempotency_key, body.webhook(here.settings)))


@router.get(
    "/videos/{video}/transcription-status",
    summary="Follow the transcription",
    tags=["Transcripts"],
    responses=described(404),
)
def get_transcription_status(video: VideoId, here: Here) -> StageProgress:
    """How far the transcript is."""
    return _progress(here, video, [Stage.TRANSCRIPTION], lambda view: view.summary.has_transcript)


@router.get(
    "/videos/{video}/generation-status", summary="Follow the search", tags=["Moments"], responses=described(404)
)
def get_generation_status(video: VideoId, here: Here) -> StageProgress:
    """How far the moments are."""
    return _progress(here, video, [Stage.MOMENT_GENERATION], lambda view: view.number_of_moments > 0)


@router.get(
    "/videos/{video}/refinement-status", summary="Follow the refinement", tags=["Moments"], responses=described(404)
)
def get_refinement_status(video: VideoId, here: Here) -> StageProgress:
    """How far the refined moments are."""
    return _progress(here, video, [Stage.MOMENT_REFINEMENT], lambda view: view.number_of_refined_moments > 0)


@router.get(
    "/videos/{video}/clip-extraction-status", summary="Follow the cutting", tags=["Clips"], responses=described(404)
)
def get_clip_extraction_status(video: VideoId, here: Here) -> StageProgress:
    """How far the clips are, cut and stored."""
    stages = [Stage.CLIP_EXTRACTION, Stage.CLIP_UPLOAD]
    return _progress(here, video, stages, lambda view: view.number_of_clips > 0)


def _nothing() -> PipelineConfig:
    return PipelineConfig.parse({})


def _progress(
    here: Here, video: str, stages: Sequence[Stage], has_result: Callable[[VideoOverview], bool]
) -> StageProgress:
    """`has_result` is asked of a video that is stored."""
    with here.database.read() as session:
        try:
            there = has_result(videos.overview(video).run(session))
        except NotFound:
            there = False
    return stage_progress(status_of(here, video), stages, has_result=there)


def _started(submission: Submission) -> Started:
    return Started(
        video_id=submission.video_id,
        request_id=submission.request_id or "",
        pipeline_type=submission.pipeline_type,
        status_url=f"/api/pipeline/{submission.video_id}/status",
    )
