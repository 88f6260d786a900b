"""An OpenTimelineIO timeline: a clip for each moment, in rational time. Imports the library: not for start-up."""

from fractions import Fraction
from urllib.parse import quote

import opentimelineio as otio

from videomoments_dagster.exports.frames import frame_range, nominal_rate, to_frames
from videomoments_dagster.exports.moment_set import ExportedMoment, ExportedVideo, MomentSet, one_line


def to_otio(exported: MomentSet) -> str:
    """`.otio` as JSON. Clips refer to the video by its file name, for a file beside this one; where the video is stored
    stands in the metadata, with what is known of each moment."""
    video = exported.video
    rate = nominal_rate(video.frame_rate)
    kind = otio.schema.TrackKind.Video if video.has_video else otio.schema.TrackKind.Audio
    track = otio.schema.Track(name="Moments", kind=kind)
    last = max((frame_range(moment, rate)[1] for moment in exported.moments), default=1)
    length = max(last, to_frames(video.duration, rate) if video.duration is not None else 0)
    for moment in exported.moments:
        track.append(_clip(moment, video, rate, length))
    timeline = otio.schema.Timeline(name=one_line(video.title), global_start_time=_time(0, rate))
    timeline.tracks.append(track)
    timeline.metadata["videomoments"] = {
        "video_id": video.identifier,
        "cloud_url": video.cloud_url,
        "frame_rate": f"{rate.numerator}/{rate.denominator}",
    }
    return otio.adapters.write_to_string(timeline, "otio_json", indent=2) + "\n"


def _clip(moment: ExportedMoment, video: ExportedVideo, rate: Fraction, length: int) -> otio.schema.Clip:
    first, end = frame_range(moment, rate)
    clip = otio.schema.Clip(
        name=one_line(moment.title),
        media_reference=otio.schema.ExternalReference(
            target_url=quote(video.file_name), available_range=_range(0, length, rate)
        ),
        source_range=_range(first, end - first, rate),
    )
    clip.metadata["videomoments"] = {
        "moment_id": moment.identifier,
        "parent_id": moment.parent_identifier,
        "is_refined": moment.is_refined,
        "score": moment.score,
        "model_name": moment.model_name,
        "start_time": float(moment.start),
        "end_time": float(moment.end),
    }
    clip.markers.append(
        otio.schema.Marker(
            name=one_line(moment.title), marked_range=_range(first, 1, rate), color=otio.schema.MarkerColor.GREEN
        )
    )
    return clip


def _time(frame: int, rate: Fraction) -> otio.opentime.RationalTime:
    return otio.opentime.RationalTime(frame, float(rate))


def _range(first: int, frames: int, rate: Fraction) -> otio.opentime.TimeRange:
    return otio.opentime.TimeRange(_time(first, rate), _time(frames, rate))
