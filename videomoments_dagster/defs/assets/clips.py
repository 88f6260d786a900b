"""The `clips` asset: an MP4 for every root moment, cut on keyframes, its times as the file holds them."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import dagster as dg

from db.models import Video
from db.queries import clips as clip_queries
from db.queries import moments as moment_queries
from db.queries.clips import CUT_TOLERANCE_SECONDS
from db.queries.moments import MomentView
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.moments import moments
from videomoments_dagster.defs.inputs import Overrides, request_config, require_video
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.refining import roots_of
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.errors import MediaError, NotFound
from videomoments_dagster.media.cut import CutFailure, CutRequest, CutResult, cut_clips
from videomoments_dagster.media.keyframes import KeyframeIndex, keyframe_index
from videomoments_dagster.media.plan import EXTRA_PADDING_SECONDS
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names


@dg.asset(
    deps=[moments],
    partitions_def=videos,
    group_name="videos",
    kinds={"ffmpeg", "gcs", "postgres"},
    owners=["team:media"],
    retry_policy=policies.TRANSIENT,
    pool=policies.CLIP_EXTRACTION,
    code_version="1",
)
def clips(context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides) -> dg.MaterializeResult:
    """A clip for each moment, or for the one that is asked for alone. One that is stored and still fits its moment is
    kept: a retry cuts only the rest."""
    key, store = context.partition_key, platform.store
    with platform.temp.directory("clips", key) as directory:
        with stage(context, platform, Stage.CLIP_EXTRACTION) as progress:
            with platform.database.read() as session:
                video = require_video(session, key)
                asked = request_config(session, key, config)
                roots = roots_of(session, video, asked.moment)
                edited = [each for each in moment_queries.of_video(session, video.id, refined=True) if each.edited_at]
            wanted = _wanted(platform, video, asked, roots, edited, directory)
            outcomes = []
            if wanted:
                with store.local_copy(store.name_of(video.cloud_url), directory) as path:
                    index = _index(platform, video, path)
                    outcomes = cut_clips(path, wanted, index, on_progress=progress)
        made = [outcome for outcome in outcomes if isinstance(outcome, CutResult)]
        failed = [outcome for outcome in outcomes if isinstance(outcome, CutFailure)]
        with stage(context, platform, Stage.CLIP_UPLOAD) as progress:
            root_of = {root.identifier: root for root in roots}
            for done, cut in enumerate(made):
                with suppress(NotFound):  # a person deleted the moment meanwhile
                    _keep(platform, video, cut, root_of[cut.key])
                progress((done + 1) / len(made))
        if failed:  # what could be cut is kept
            with stage(context, platform, Stage.CLIP_EXTRACTION):
                raise MediaError(
                    f"{len(failed)} of {len(roots)} clips could not be cut: {failed[0].error.message}",
                    hint=failed[0].error.hint,
                )
    with platform.database.read() as session:
        stored = clip_queries.of_video(session, video.id)
    return dg.MaterializeResult(
        metadata={
            "number_of_clips": len(stored),
            "cut_now": len(made),
            "size_bytes": 1024 * sum(clip.file_size_kb or 0 for clip in stored),
            "duration_seconds": sum(clip.end_time - clip.start_time for clip in stored),
            "re_encoded": sum(cut.mode != "copy" for cut in made),
            "clips": metadata.table(
                ["start", "end", "kB", "video", "play"],
                [
                    (
                        c.start_time,
                        c.end_time,
                        c.file_size_kb,
                        c.video_codec,
                        metadata.link(platform, f"/api/clips/{c.moment_identifier}/stream"),
                    )
                    for c in stored
                ],
            ),
        }
    )


def _wanted(
    platform: PlatformResource,
    video: Video,
    asked: PipelineConfig,
    roots: Sequence[MomentView],
    edited: Sequence[MomentView],
    directory: Path,
) -> list[CutRequest]:
    """A cut for each moment that has no stored clip with the padding that is asked for. Refined moments that a person
    `edited` play from their parent's clip, wherever in the video they are now: so it holds them, too."""
    duration = video.duration_seconds or 0.0
    cuts: list[CutRequest] = []
    for root in roots:
        children = [each for each in edited if each.parent_identifier == root.identifier]
        shown = [root, *children]
        start = max(0.0, min(each.start_time for each in shown) - asked.padding_left)
        end = min(duration, max(each.end_time for each in shown) + asked.padding_right)
        if not _still_fits(platform, root, children, start, end):
            cuts.append(CutRequest(root.identifier, start, end, directory / f"{root.identifier}.mp4"))
    return cuts


def _still_fits(
    platform: PlatformResource, root: MomentView, children: Sequence[MomentView], start: float, end: float
) -> bool:
    """A cut starts up to EXTRA_PADDING_SECONDS early, on a keyframe, and ends within a frame or two. One that the API
    would call outdated never fits: who asks for it again gets it."""
    clip = root.clip
    return (
        clip is not None
        and clip.is_current
        and all(clip.shows(child.start_time, child.end_time) for child in children)
        and start - EXTRA_PADDING_SECONDS <= clip.start_time <= start + CUT_TOLERANCE_SECONDS
        and abs(clip.end_time - end) <= CUT_TOLERANCE_SECONDS
        and platform.store.stat(platform.store.name_of(clip.cloud_url)) is not None
    )


def _index(platform: PlatformResource, video: Video, path: Path) -> KeyframeIndex:
    """The video's keyframe index: made once, kept as an object that names the file it belongs to."""
    name, store = names.keyframes(video.identifier), platform.store
    belongs_to = store.require(store.name_of(video.cloud_url)).md5
    if store.stat(name):
        with (
            platform.temp.directory("keyframes", video.identifier) as directory,
            store.local_copy(name, directory) as kept,
        ):
            content = json.loads(kept.read_text())
        if content["md5"] == belongs_to:
            return KeyframeIndex.from_json(content["index"])
    index = keyframe_index(path)
    store.put_bytes(name, json.dumps({"md5": belongs_to, "index": index.to_json()}).encode(), "application/json")
    return index


def _keep(platform: PlatformResource, video: Video, cut: CutResult, root: MomentView) -> None:
    """Object first, verified, then the row. Raises NotFound, and leaves no object, when the moment is gone."""
    name = names.clip(video.identifier, root.identifier)
    stored = platform.store.put_file(name, cut.destination, "video/mp4")
    try:
        with platform.database.session() as session:
            clip_queries.upsert(
                session,
                root.id,
                video.id,
                cloud_url=platform.store.cloud_url(name),
                start_time=cut.start_seconds,
                end_time=cut.end_seconds,
                padding_left=round(root.start_time - cut.start_seconds, 3),
                padding_right=round(cut.end_seconds - root.end_time, 3),
                file_size_kb=stored.size_kb,
                format="mp4",
                video_codec=cut.video_codec,
                audio_codec=cut.audio_codec,
                resolution=cut.resolution,
            )
    except NotFound:
        platform.store.delete(name)
        raise
