"""The `thumbnails` asset: a picture of the video, and one of each clip."""

import dagster as dg

from db.queries import clips as clip_queries
from db.queries import thumbnails as thumbnail_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.clips import clips
from videomoments_dagster.defs.assets.video import video
from videomoments_dagster.defs.inputs import require_video
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.errors import MediaError
from videomoments_dagster.media.thumbnail import Thumbnail, ThumbnailFailure, ThumbnailRequest, make_thumbnails
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names

_OF_THE_VIDEO = "video"


@dg.asset(
    deps=[video, clips],
    partitions_def=videos,
    group_name="videos",
    kinds={"ffmpeg", "gcs", "postgres"},
    owners=["team:media"],
    retry_policy=policies.TRANSIENT,
    code_version="1",
)
def thumbnails(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """JPEGs 480 pixels wide: the video a tenth in, each clip at the middle of its span."""
    key, store = context.partition_key, platform.store
    with (
        stage(context, platform, Stage.THUMBNAILS) as progress,
        platform.temp.directory("thumbnails", key) as directory,
    ):
        with platform.database.read() as session:
            row = require_video(session, key)
            stored_clips = {clip.moment_identifier: clip for clip in clip_queries.of_video(session, row.id)}
        wanted = [ThumbnailRequest(_OF_THE_VIDEO, (row.duration_seconds or 0.0) / 10, directory / "video.jpg")]
        wanted += [
            ThumbnailRequest(moment, (clip.start_time + clip.end_time) / 2, directory / f"{moment}.jpg")
            for moment, clip in stored_clips.items()
        ]
        with store.local_copy(store.name_of(row.cloud_url), directory) as path:
            made = make_thumbnails(path, wanted, on_progress=progress)
        size_bytes = 0
        for picture in made:
            if isinstance(picture, Thumbnail):
                clip = stored_clips.get(picture.key)
                size_bytes += _keep(platform, row.id, clip and clip.id, key, picture)
        failed = [picture for picture in made if isinstance(picture, ThumbnailFailure)]
        if failed:  # what could be made is kept
            raise MediaError(
                f"{len(failed)} of {len(wanted)} thumbnails could not be made: {failed[0].error.message}",
                hint=failed[0].error.hint,
            )
    address = platform.settings.public_url
    return dg.MaterializeResult(
        metadata={
            "number_of_thumbnails": len(made),
            "size_bytes": size_bytes,
            "thumbnail": metadata.thumbnail(platform, f"/api/videos/{key}/thumbnail"),
            "clips": dg.MetadataValue.md(
                " ".join(f"![{moment}]({address}/api/clips/{moment}/thumbnail)" for moment in stored_clips)
            ),
        }
    )


def _keep(platform: PlatformResource, video_id: int, clip_id: int | None, key: str, picture: Thumbnail) -> int:
    """Store one picture and write its row; returns its size in bytes."""
    name = names.clip_thumbnail(key, picture.key) if clip_id else names.video_thumbnail(key)
    stored = platform.store.put_file(name, picture.destination, "image/jpeg")
    values = {"cloud_url": platform.store.cloud_url(name), "file_size_kb": stored.size_kb}
    with platform.database.session() as session:
        if clip_id:
            thumbnail_queries.set_clip_thumbnail(session, clip_id, **values)
        else:
            thumbnail_queries.set_video_thumbnail(session, video_id, **values)
    return stored.size_bytes
