"""The `video` asset: the file is fetched or taken from an upload, probed, stored, and gets its row."""

from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
from sqlalchemy.orm import Session

from db.models import Video
from db.queries import requests as request_queries
from db.queries import videos as video_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.inputs import request_config
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import Progress, stage
from videomoments_dagster.errors import StageInputMissing, VideoMomentsError
from videomoments_dagster.media.fetch import fetch
from videomoments_dagster.media.probe import MediaInfo, probe
from videomoments_dagster.redaction import redacted
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names
from videomoments_dagster.storage.base import StoredObject
from videomoments_dagster.temp_files import DOWNLOADS


@dg.asset(
    partitions_def=videos,
    group_name="videos",
    kinds={"ffmpeg", "gcs", "postgres"},
    owners=["team:media"],
    retry_policy=policies.TRANSIENT,
    code_version="1",
)
def video(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """The video file in the object store, and its row.

    Its source is the newest request's URL, of a file or of a page that shows one, or the file uploaded with it.
    A stored file whose source has not changed is kept: nothing is fetched twice.
    """
    key = context.partition_key
    with stage(context, platform, Stage.VIDEO_DOWNLOAD) as progress:
        with platform.database.session() as session:
            newest = request_queries.newest_with_source(session, key)
            url = newest.source_url if newest else None
            row = video_queries.get(session, key)
            upload = _newest_upload(session, platform, key)
        stored = _still_stored(platform, row, url) if upload is None else None
        if row and stored:
            context.log.info("The stored file is kept: its source has not changed.")
        elif upload or url:
            row, stored = _store(platform, key, url if upload is None else None, upload, progress)
        else:
            raise StageInputMissing(
                f"Nothing says where video {key!r} comes from.", hint="Submit it: `videomoments submit URL|FILE`."
            )
        if upload:
            platform.store.delete(upload.name)
    return dg.MaterializeResult(
        metadata={
            "duration_seconds": row.duration_seconds or 0.0,
            "size_bytes": stored.size_bytes,
            "resolution": row.resolution or "",
            "frame_rate": row.frame_rate or 0.0,
            "video_codec": row.video_codec or "",
            "audio_codec": row.audio_codec or "none",
            "cloud_url": row.cloud_url,
            "source": redacted(row.source_url or "upload"),
            "play": metadata.link(platform, f"/api/videos/{key}/stream"),
        }
    )


def _newest_upload(session: Session, platform: PlatformResource, key: str) -> StoredObject | None:
    """Only what a request stands behind: an upload whose request was never written is somebody's broken attempt."""
    uploads = [
        upload
        for upload in platform.store.list(names.upload(key, ""))
        if request_queries.get(session, upload.name.rpartition("/")[2])
    ]
    return max(uploads, key=lambda upload: upload.generation, default=None)


def _still_stored(platform: PlatformResource, row: Video | None, url: str | None) -> StoredObject | None:
    if row is None or row.source_url != url:
        return None
    return platform.store.stat(platform.store.name_of(row.cloud_url))


def _store(
    platform: PlatformResource, key: str, url: str | None, upload: StoredObject | None, progress: Progress
) -> tuple[Video, StoredObject]:
    if upload:
        with (
            platform.temp.directory("video", key) as directory,
            platform.store.local_copy(upload.name, directory) as path,
        ):
            return _keep(platform, key, None, path, reject=upload)
    assert url  # noqa: S101  # the caller found one of the two
    with platform.temp.resumable(DOWNLOADS, key) as directory:  # what has arrived stays until it is stored
        fetched = fetch(url, directory, on_progress=progress)
        return _keep(platform, key, url, fetched.path, title=fetched.title)


def _keep(
    platform: PlatformResource,
    key: str,
    url: str | None,
    path: Path,
    *,
    title: str | None = None,
    reject: StoredObject | None = None,
) -> tuple[Video, StoredObject]:
    """Object first, verified, then the row. A file that is refused leaves neither. `title` is for a video without."""
    try:
        info = probe(path)
    except VideoMomentsError as error:
        if reject and not error.retryable:
            platform.store.delete(reject.name)
        shown = urlsplit(url).path.rpartition("/")[2] if url else "The uploaded file"
        raise type(error)(error.message.replace(path.name, shown or redacted(url or "")), hint=error.hint) from error
    name = names.video(key, info.extension)
    cloud_url = platform.store.cloud_url(name)
    with platform.database.read() as session:
        before = video_queries.get(session, key)
    try:
        stored = platform.store.put_file(name, path, f"video/{info.extension}")
        with platform.database.session() as session:
            title = request_config(session, key).title or (None if before and before.title else title)
            row = _upsert(session, key, url, cloud_url, title, info, stored)
    except dg.DagsterExecutionInterruptedError:
        if before is None:  # cancelled between the two: the object would stay without a row
            platform.store.delete(name)
        raise
    replaced = before.cloud_url if before and before.cloud_url != cloud_url else None
    if replaced:
        platform.store.delete(platform.store.name_of(replaced))
    return row, stored


def _upsert(
    session: Session,
    key: str,
    url: str | None,
    cloud_url: str,
    title: str | None,
    info: MediaInfo,
    stored: StoredObject,
) -> Video:
    return video_queries.upsert(
        session,
        key,
        source_url=url,
        cloud_url=cloud_url,
        title=title,
        duration_seconds=info.duration_seconds,
        file_size_kb=stored.size_kb,
        video_codec=info.video_codec,
        audio_codec=info.audio_codec,
        resolution=info.resolution,
        frame_rate=info.frame_rate,
    )
