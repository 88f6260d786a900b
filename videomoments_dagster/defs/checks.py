"""Asset checks, one partition a video: what must be true of rows and files whenever somebody looks.

Blocking where downstream would be garbage; the others report. They read what is stored, so they can be run at any
time, long after the run that made it.
"""

import wave
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import wraps

import dagster as dg

from db.queries import clips as clip_queries
from db.queries import moments as moment_queries
from db.queries import thumbnails as thumbnail_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.audio import audio
from videomoments_dagster.defs.assets.clips import clips
from videomoments_dagster.defs.assets.moments import moments
from videomoments_dagster.defs.assets.refined_moments import refined_moments
from videomoments_dagster.defs.assets.scores import scores
from videomoments_dagster.defs.assets.thumbnails import thumbnails
from videomoments_dagster.defs.assets.transcript import transcript
from videomoments_dagster.defs.assets.video import video
from videomoments_dagster.defs.inputs import (
    cuts_clips,
    request_config,
    require_transcript,
    require_video,
)
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.media.probe import probe
from videomoments_dagster.media.thumbnail import image_sizes
from videomoments_dagster.requests.stages import STAGES_OF_ASSET
from videomoments_dagster.storage import names

AUDIO_TOLERANCE_SECONDS = 0.5
ANSWERING = ("moments", "refined_moments", "scores")  # assets whose models' raw answers are kept
ROUNDING_SECONDS = 0.002  # times are stored as floats of whole milliseconds
_Look = Callable[[dg.AssetCheckExecutionContext, PlatformResource], dg.AssetCheckResult]


def video_check(of: dg.AssetsDefinition, *, blocking: bool = False) -> Callable[[_Look], dg.AssetChecksDefinition]:
    """A check of this asset of every video. What may pass by itself is looked at again; what fails keeps its name."""
    stage = STAGES_OF_ASSET[of.key.to_user_string()][0]

    def define(look: _Look) -> dg.AssetChecksDefinition:
        @wraps(look)
        def named(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
            try:
                return look(context, platform)
            except VideoMomentsError as error:
                raise policies.as_failure(context, stage, error) from error

        tried = {"blocking": blocking, "partitions_def": videos, "retry_policy": policies.TRANSIENT}
        return dg.asset_check(asset=of, **tried)(named)

    return define


def _result(faults: Sequence[str], **counts: int | float) -> dg.AssetCheckResult:
    """Passed when there are no faults; the first twenty are shown."""
    return dg.AssetCheckResult(
        passed=not faults,
        description=f"{len(faults)} faults: {faults[0]}" if faults else None,
        metadata={**counts, **({"faults": metadata.points(faults[:20])} if faults else {})},
    )


@video_check(video, blocking=True)
def video_playable(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """The stored file opens, decodes, and has the duration and resolution of its row."""
    key, store, faults = context.partition_key, platform.store, []
    with platform.database.read() as session:
        row = require_video(session, key)
    try:
        with (
            platform.temp.directory("checks", key) as directory,
            store.local_copy(store.name_of(row.cloud_url), directory) as path,
        ):
            info = probe(path)
    except VideoMomentsError as error:
        if error.retryable:
            raise
        return _result([error.message])
    if abs(info.duration_seconds - (row.duration_seconds or 0)) > AUDIO_TOLERANCE_SECONDS:
        faults.append(f"The file lasts {info.duration_seconds:.3f} s, its row says {row.duration_seconds} s.")
    if info.resolution != row.resolution:
        faults.append(f"The file is {info.resolution}, its row says {row.resolution}.")
    return _result(faults, duration_seconds=info.duration_seconds)


@video_check(audio, blocking=True)
def audio_matches_video(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """The audio is 16 kHz mono and as long as the video, within 0.5 s."""
    key, faults = context.partition_key, []
    with platform.database.read() as session:
        row = require_video(session, key)
    try:
        with (
            platform.temp.directory("checks", key) as directory,
            platform.store.local_copy(names.audio(key), directory) as path,
            wave.open(str(path)) as sound,
        ):
            rate, channels, seconds = (
                sound.getframerate(),
                sound.getnchannels(),
                sound.getnframes() / sound.getframerate(),
            )
    except (VideoMomentsError, wave.Error, EOFError) as error:
        return _result([str(error)])
    if (rate, channels) != (16_000, 1):
        faults.append(f"{rate} Hz and {channels} channels instead of 16000 Hz and 1.")
    if abs(seconds - (row.duration_seconds or 0)) > AUDIO_TOLERANCE_SECONDS:
        faults.append(f"The audio lasts {seconds:.3f} s, the video {row.duration_seconds} s.")
    return _result(faults, duration_seconds=seconds)


@video_check(transcript, blocking=True)
def words_in_order(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Words and sentences are sorted, do not overlap, and lie inside the video."""
    with platform.database.read() as session:
        row = require_video(session, context.partition_key)
        said = require_transcript(session, row)
    duration, faults = (row.duration_seconds or 0) + AUDIO_TOLERANCE_SECONDS, []
    for kind, items, label in (("word", said.word_timestamps, "word"), ("sentence", said.segment_timestamps, "text")):
        before = 0.0
        for item in items:
            if not before - ROUNDING_SECONDS <= item["start"] <= item["end"] <= duration:
                faults.append(f"The {kind} {item[label]!r} from {item['start']} to {item['end']} s.")
            before = item["end"]
    return _result(faults, words=len(said.word_timestamps), sentences=len(said.segment_timestamps))


@video_check(moments, blocking=True)
def moments_inside_video(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Every moment starts and ends inside the video."""
    with platform.database.read() as session:
        row = require_video(session, context.partition_key)
        found = moment_queries.of_video(session, row.id)
    end = (row.duration_seconds or 0) + ROUNDING_SECONDS
    faults = [
        f"{moment.title!r} from {moment.start_time} to {moment.end_time} s; the video lasts {row.duration_seconds} s."
        for moment in found
        if not 0 <= moment.start_time < moment.end_time <= end
    ]
    return _result(faults, moments=len(found))


@video_check(moments)
def moments_within_lengths(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Every moment a model found has a length the request asked for."""
    with platform.database.read() as session:
        row = require_video(session, context.partition_key)
        config = request_config(session, context.partition_key)
        found = moment_queries.of_video(session, row.id, refined=False)
    low, high = config.min_moment_length - ROUNDING_SECONDS, config.max_moment_length + ROUNDING_SECONDS
    faults = [
        f"{moment.title!r} lasts {moment.end_time - moment.start_time:.3f} s; asked: {low:.0f} to {high:.0f} s."
        for moment in found
        if moment.generation_model and not moment.edited_at and not low <= moment.end_time - moment.start_time <= high
    ]
    return _result(faults, moments=len(found))


@video_check(clips)
def clips_match_rows(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Every clip's file plays and lasts as long as its row says, within one frame; every moment that a model found has
    a clip, unless the newest request leaves clips out."""
    key, store, faults = context.partition_key, platform.store, []
    with platform.database.read() as session:
        row = require_video(session, key)
        stored = clip_queries.of_video(session, row.id)
        roots = moment_queries.of_video(session, row.id, refined=False)
        config = request_config(session, key)
    if cuts_clips(platform, config):
        faults += [f"{moment.title!r} has no clip." for moment in roots if moment.generation_model and not moment.clip]
    frame_seconds = 1 / row.frame_rate if row.frame_rate else 0.1
    with platform.temp.directory("checks", key) as directory:
        for clip in stored:
            wanted = clip.end_time - clip.start_time
            try:
                with store.local_copy(store.name_of(clip.cloud_url), directory) as path:
                    seconds = probe(path).duration_seconds
            except VideoMomentsError as error:
                if error.retryable:
                    raise
                faults.append(f"{clip.moment_identifier}: {error.message}")
                continue
            if abs(seconds - wanted) > frame_seconds + ROUNDING_SECONDS:
                faults.append(f"{clip.moment_identifier} lasts {seconds:.3f} s, its row says {wanted:.3f} s.")
    return _result(faults, clips=len(stored))


@video_check(refined_moments)
def refined_inside_clip(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Every refined moment lies inside the clip of the moment it refines; without a clip that shows that moment, it
    overlaps it. Where a person put a refined moment, it is right."""
    with platform.database.read() as session:
        row = require_video(session, context.partition_key)
        everything = moment_queries.of_video(session, row.id)
    root_of = {moment.identifier: moment for moment in everything if not moment.is_refined}
    refined = [each for each in everything if each.is_refined and each.parent_identifier and not each.edited_at]
    faults = []
    for moment in refined:
        root = root_of[moment.parent_identifier or ""]
        clip = root.playable
        if clip is None:
            if moment.end_time <= root.start_time or root.end_time <= moment.start_time:
                faults.append(f"{moment.title!r} from {moment.start_time} to {moment.end_time} s is another moment.")
        elif not (
            clip.start_time - ROUNDING_SECONDS <= moment.start_time
            and moment.end_time <= clip.end_time + ROUNDING_SECONDS
        ):
            faults.append(
                f"{moment.title!r} from {moment.start_time} to {moment.end_time} s; "
                f"its clip holds {clip.start_time} to {clip.end_time} s."
            )
    return _result(faults, refined=len(refined))


@video_check(scores)
def moments_scored(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Every moment a model made has a score and says which model gave it."""
    with platform.database.read() as session:
        row = require_video(session, context.partition_key)
        found = moment_queries.of_video(session, row.id)
    faults = [f"{moment.title!r} has no score." for moment in found if moment.generation_model and moment.score is None]
    return _result(faults, moments=len(found))


@video_check(thumbnails)
def thumbnails_decode(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Every thumbnail is a picture that decodes."""
    key, store, faults = context.partition_key, platform.store, []
    with platform.database.read() as session:
        row = require_video(session, key)
        stored = thumbnail_queries.of_video(session, row.id)
    with platform.temp.directory("checks", key) as directory, ExitStack() as files:
        paths = []
        for thumbnail in stored:
            try:
                paths.append(files.enter_context(store.local_copy(store.name_of(thumbnail.cloud_url), directory)))
            except VideoMomentsError as error:
                if error.retryable:
                    raise
                faults.append(f"{thumbnail.cloud_url}: {error.message}")
        for path, size in zip(paths, image_sizes(paths), strict=True):
            if isinstance(size, VideoMomentsError):
                faults.append(f"{path.name}: {size.message}")
    return _result(faults, thumbnails=len(stored))


@video_check(thumbnails)
def rows_and_objects_agree(context: dg.AssetCheckExecutionContext, platform: PlatformResource) -> dg.AssetCheckResult:
    """Every row has its object, and every object of the video has its row."""
    key, store = context.partition_key, platform.store
    with platform.database.read() as session:
        row = require_video(session, key)
        promised = {store.name_of(row.cloud_url)}
        promised |= {store.name_of(clip.cloud_url) for clip in clip_queries.of_video(session, row.id)}
        promised |= {store.name_of(picture.cloud_url) for picture in thumbnail_queries.of_video(session, row.id)}
    answers = {names.answers(key, asset) for asset in ANSWERING}
    without_row = {names.audio(key), names.keyframes(key)} | answers  # found by name
    unfinished = tuple(names.unfinished_answers(key, asset) for asset in (*ANSWERING, "transcript"))
    there = {
        stored.name
        for prefix in names.prefixes(key)
        for stored in store.list(prefix)
        if not stored.name.startswith(unfinished)
    }
    faults = [f"{name} is promised by a row and not there." for name in sorted(promised - there)]
    faults += [f"{name} has no row." for name in sorted(there - promised - without_row)]
    return _result(faults, rows=len(promised), objects=len(there))


ALL = [
    video_playable,
    audio_matches_video,
    words_in_order,
    moments_inside_video,
    moments_within_lengths,
    clips_match_rows,
    refined_inside_clip,
    moments_scored,
    thumbnails_decode,
    rows_and_objects_agree,
]
