"""The `audio` asset: 16 kHz mono WAV in the video's clock, stored for recognizers and refiners."""

import dagster as dg

from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.video import video
from videomoments_dagster.defs.inputs import require_video
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.media.audio import extract_audio
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names


@dg.asset(
    deps=[video],
    partitions_def=videos,
    group_name="videos",
    kinds={"ffmpeg", "gcs"},
    owners=["team:media"],
    retry_policy=policies.TRANSIENT,
    pool=policies.AUDIO_EXTRACTION,
    code_version="1",
)
def audio(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """The video's sound as 16 kHz mono WAV. A video without an audio track fails here, for good."""
    key, store = context.partition_key, platform.store
    with platform.temp.directory("audio", key) as directory:
        with stage(context, platform, Stage.AUDIO_EXTRACTION) as progress:
            with platform.database.read() as session:
                source = store.name_of(require_video(session, key).cloud_url)
            with store.local_copy(source, directory) as path:
                extracted = extract_audio(path, directory / "audio.wav", on_progress=progress)
        with stage(context, platform, Stage.AUDIO_UPLOAD):
            stored = store.put_file(names.audio(key), directory / "audio.wav", "audio/wav")
    return dg.MaterializeResult(
        metadata={
            "duration_seconds": extracted.duration_seconds,
            "sample_rate_hz": extracted.sample_rate,
            "size_bytes": stored.size_bytes,
            "cloud_url": store.cloud_url(stored.name),
            "thumbnail": metadata.thumbnail(platform, f"/api/videos/{key}/thumbnail"),
        }
    )
