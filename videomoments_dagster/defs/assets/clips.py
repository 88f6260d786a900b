"""The `clips` asset: an MP4 for every root moment, cut on keyframes, its times as the file holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from db.models import Video
from db.queries import clips as clip_queries
from db.queries import moments as moment_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.moments import moments
from videomoments_dagster.defs.inputs import Overrides, request_config, require_video, temp_directory
from videomoments_dagster.defs.objects import delete_objects
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.errors import MediaError
from videomoments_dagster.media.cut import CutRequest, CutResult, cut_clips
from videomoments_dagster.media.keyframes import KeyframeIndex, keyframe_index
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names


@dg.asset(
    deps=[moments],
    partitions_def=videos,
    group_name="clips",
    kinds={"ffmpeg", "gcs", "postgres"},
    owners=["team:media"],
    retry_policy=policies.TRANSIENT,
    pool=policies.CLIP_EXTRACTION,
    code_version="1",
)
def clips(context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides) -> dg.MaterializeResult:
    """A clip for each moment. A clip that is stored and still fits its moment is kept, so a retry cuts only the rest."""
    key, store = context.partition_key, platform.store
    with temp_directory(platform, "clips", key) as directory:
        with stage(context, platform, Stage.CLIP_EXTRACTION) as progress:
            with platform.database.read() as session:
                video = require_video(session, key)
                asked = request_config(session, key, config)
                roots = moment_queries.of_video(session, video.id, refined=False)
            wanted = _wanted(platform, video, config, roots, directory)
            results: list[CutResult] = []
            if wanted:
                with store.local_copy(store.name_of(video.cloud_url), directory) as path:
                    index = _index(platform, key, path)
                    results = cut_clips(path, wanted, index, settings=platform.settings, on_progress=progress)
        with stage(context, platform, Stage.CLIP_UPLOAD) as progress:
            for done, result in enumerate(cut for cut in results if cut.error is None):
                _keep(platform, video, result, roots)
                progress((done + 1) / len(results))
            failed = [result for result in results if result.error is not None]
            if failed:
                raise MediaError(f"{len(failed)} of {len(roots)} clips could not be cut: {failed[0].error}")
    with platform.database.read() as session:
        stored = clip_queries.of_video(session, video.id)
    return dg.MaterializeResult(
        metadata={
            "number_of_clips": len(stored),
            "cut_now": len(results),
            "size_bytes": 1024 * sum(clip.file_size_kb or 0 for clip in stored),
            "duration_seconds": sum(clip.end_time - clip.start_time for clip in stored),
            "re_encoded": sum(result.mode != "copy" for result in results),
            "clips": metadata.table(
                ["start", "end", "kB", "video", "play"],
                [
                    (
                        c.start_time,
                        c.end_time,
                        c.file_size_kb,
                        c.video_codec,
                        f"{platform.settings.public_url}/api/clips/{c.moment_identifier}/stream",
                    )
                    for c in stored
                ],
            ),
        }
    )
