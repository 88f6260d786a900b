"""The stages a video goes through, as status and history name them; which of them each asset and pipeline type runs."""

from enum import StrEnum


class Stage(StrEnum):
    VIDEO_DOWNLOAD = "VIDEO_DOWNLOAD"
    AUDIO_EXTRACTION = "AUDIO_EXTRACTION"
    AUDIO_UPLOAD = "AUDIO_UPLOAD"
    TRANSCRIPTION = "TRANSCRIPTION"
    MOMENT_GENERATION = "MOMENT_GENERATION"
    CLIP_EXTRACTION = "CLIP_EXTRACTION"
    CLIP_UPLOAD = "CLIP_UPLOAD"
    MOMENT_REFINEMENT = "MOMENT_REFINEMENT"
    SCORING = "SCORING"
    THUMBNAILS = "THUMBNAILS"


class PipelineType(StrEnum):
    FULL = "full"
    TRANSCRIPT_ONLY = "transcript_only"
    MOMENTS_ONLY = "moments_only"
    CLIPS_ONLY = "clips_only"
    REFINEMENT_ONLY = "refinement_only"


STAGES_OF_ASSET: dict[str, tuple[Stage, ...]] = {
    "video": (Stage.VIDEO_DOWNLOAD,),
    "audio": (Stage.AUDIO_EXTRACTION, Stage.AUDIO_UPLOAD),
    "transcript": (Stage.TRANSCRIPTION,),
    "moments": (Stage.MOMENT_GENERATION,),
    "clips": (Stage.CLIP_EXTRACTION, Stage.CLIP_UPLOAD),
    "refined_moments": (Stage.MOMENT_REFINEMENT,),
    "scores": (Stage.SCORING,),
    "thumbnails": (Stage.THUMBNAILS,),
}

STAGES_OF: dict[PipelineType, tuple[Stage, ...]] = {
    PipelineType.FULL: tuple(Stage),
    PipelineType.TRANSCRIPT_ONLY: (Stage.AUDIO_EXTRACTION, Stage.AUDIO_UPLOAD, Stage.TRANSCRIPTION),
    PipelineType.MOMENTS_ONLY: (
        Stage.MOMENT_GENERATION,
        Stage.CLIP_EXTRACTION,
        Stage.CLIP_UPLOAD,
        Stage.MOMENT_REFINEMENT,
        Stage.SCORING,
        Stage.THUMBNAILS,
    ),
    PipelineType.CLIPS_ONLY: (Stage.CLIP_EXTRACTION, Stage.CLIP_UPLOAD, Stage.THUMBNAILS),
    PipelineType.REFINEMENT_ONLY: (Stage.MOMENT_REFINEMENT, Stage.SCORING),
}
