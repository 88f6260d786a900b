"""The jobs that requests are launched as: one run of one process for one video."""

from typing import Any

import dagster as dg

from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import STAGES_OF, STAGES_OF_ASSET, PipelineType

GROUP = "videos"
"""The assets of a video; those of the platform's own upkeep are in another (defs/maintenance)."""

full = dg.define_asset_job(
    "video_pipeline",
    selection=dg.AssetSelection.groups(GROUP),
    description="Everything, from the download to scored moments, clips and thumbnails.",
    tags={"dagster/max_runtime": str(12 * 3600)},
)
transcript_only = dg.define_asset_job(
    "transcript_pipeline",
    selection=dg.AssetSelection.assets("audio", "transcript"),
    description="Hear a stored video anew. Its moments stay as they are.",
    tags={"dagster/max_runtime": str(6 * 3600)},
)
moments_only = dg.define_asset_job(
    "moments_pipeline",
    selection=dg.AssetSelection.assets("moments", "clips", "refined_moments", "scores", "thumbnails"),
    description="Find the moments of a transcribed video anew, and all that hangs on them.",
    tags={"dagster/max_runtime": str(6 * 3600)},
)
clips_only = dg.define_asset_job(
    "clips_pipeline",
    selection=dg.AssetSelection.assets("clips", "thumbnails"),
    description="Cut the clips that are missing or no longer fit their moments, and their thumbnails.",
    tags={"dagster/max_runtime": str(6 * 3600)},
)
refinement_only = dg.define_asset_job(
    "refinement_pipeline",
    selection=dg.AssetSelection.assets("refined_moments", "scores"),
    description="Refine the boundaries of moments that are there, all or one, and score them.",
    tags={"dagster/max_runtime": str(6 * 3600)},
)
checks = dg.define_asset_job(
    "video_checks",
    selection=dg.AssetSelection.checks_for_assets(*STAGES_OF_ASSET),
    description="Only the asset checks: is what is stored still right?",
)


def selection(kind: PipelineType, *, cut_clips: bool) -> list[dg.AssetKey] | None:
    """The assets of a run, where they are not all of its job: a text-only refinement model needs no clips."""
    if cut_clips or kind not in {PipelineType.FULL, PipelineType.MOMENTS_ONLY}:
        return None
    wanted = set(STAGES_OF[kind])
    return [dg.AssetKey(asset) for asset, stages in STAGES_OF_ASSET.items() if asset != "clips" and wanted >= {*stages}]


def alone(kind: PipelineType, config: PipelineConfig) -> dict[str, Any]:
    """Run config of a pipeline for one moment, with all that was asked for it; empty for a run about all of them."""
    if config.moment is None:
        return {}
    overrides = {"config": {"overrides": config.model_dump(exclude_none=True, exclude={"title", "queue"})}}
    wanted = set(STAGES_OF[kind])
    return {"ops": {asset: overrides for asset, stages in STAGES_OF_ASSET.items() if wanted >= {*stages}}}


OF = {
    PipelineType.FULL: full,
    PipelineType.TRANSCRIPT_ONLY: transcript_only,
    PipelineType.MOMENTS_ONLY: moments_only,
    PipelineType.CLIPS_ONLY: clips_only,
    PipelineType.REFINEMENT_ONLY: refinement_only,
}
