"""The jobs that requests are launched as: one run of one process for one video."""

import dagster as dg

from videomoments_dagster.requests.stages import PipelineType

full = dg.define_asset_job(
    "video_pipeline",
    selection=dg.AssetSelection.all(),
    description="Everything, from the download to scored moments, clips and thumbnails.",
    tags={"dagster/max_runtime": str(12 * 3600)},
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
    selection=dg.AssetSelection.all_asset_checks(),
    description="Only the asset checks: is what is stored still right?",
)

JOB_OF = {
    PipelineType.FULL: full.name,
    PipelineType.MOMENTS_ONLY: moments_only.name,
    PipelineType.CLIPS_ONLY: clips_only.name,
    PipelineType.REFINEMENT_ONLY: refinement_only.name,
}
