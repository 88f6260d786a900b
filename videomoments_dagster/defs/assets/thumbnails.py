"""The `thumbnails` asset: a picture of the video, and one of each clip."""

from contextlib import suppress

import dagster as dg

from db.queries import clips as clip_queries
from db.queries import thumbnails as thumbnail_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.clips import clips
from videomoments_dagster.defs.assets.video import video
from videomoments_dagster.defs.inputs import Overrides, request_config, require_video
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.errors import MediaError, NotFound
from videomoments_dagster.media.thumbnail import (
    Thumbnail,
    ThumbnailFailure,
    ThumbnailRequest,
    at_seconds_of,
    make_thumbnails,
)
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
def thumbnails(
    context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides
) -> dg.MaterializeResult:
    """JPEGs 480 pixels wide: the video a tenth in, each clip at the middle of its span; or that of the one clip that is
    asked for alone."""
    key, store = context.partition_key, platform.store
    with (
        stage(context, platform, Stage.THUMBNAILS) as progress,
        platform.temp.directory("thumbnails", key) as directory,
    ):
        with platform.database.read() as session:
            row = require_video(session, key)
            alone = request_config(session, key, config).moment
            found = clip_queries.of_video(session, row.id)
        stored_clips = {clip.moment_identifier: clip for clip in found if alone in {None, clip.moment_identifier}}
        wanted = []
        if not alone:
            at_seconds = at_seconds_of(row.duration_seconds)
            wanted.append(ThumbnailRequest(_OF_THE_VIDEO, at_seconds, directory / "video.jpg"))
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
                with suppress(NotFound):  # a person deleted the moment meanwhile
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
    """Store one picture and write its row; returns its size in bytes. Raises NotFound, and leaves no object, when the
    clip is gone."""
    name = names.clip_thumbnail(key, picture.key) if clip_id else names.video_thumbnail(key)
    stored = platform.store.put_file(name, picture.destination, "image/jpeg")
    values = {"cloud_url": platform.store.cloud_url(name), "file_size_kb": stored.size_kb}
    try:
        with platform.database.session() as session:
            if clip_id:
                thumbnail_queries.set_clip_thumbnail(session, clip_id, **values)
            else:
                thumbnail_queries.set_video_thumbnail(session, video_id, **values)
    except NotFound:
        platform.store.delete(name)
        raise
    return stored.size_bytes
