"""An edit decision list in CMX 3600: the moments one after the other, each by its timecode in the video."""

import re
from fractions import Fraction

from videomoments_dagster.errors import Conflict
from videomoments_dagster.exports.frames import (
    DAY_HOURS,
    frame_range,
    frames_of_a_day,
    is_drop_frame,
    nominal_rate,
    timecode,
)
from videomoments_dagster.exports.moment_set import MomentSet, one_line

_MOST_EVENTS = 999
_RECORD_HOUR = 1
_LONGEST_TITLE = 70


def to_edl(exported: MomentSet) -> str:
    """The program starts at 01:00:00:00, as is the custom. The video's first frame is 00:00:00:00.

    Raises Conflict for more than 999 events, which is what the number has digits for, and for a video or program that
    goes on to 24 hours: timecode starts at zero again there, and would name the wrong frames.
    """
    video = exported.video
    rate = nominal_rate(video.frame_rate)
    if len(exported.moments) > _MOST_EVENTS:
        raise Conflict(
            f"An EDL has at most {_MOST_EVENTS} events; {video.identifier!r} has {len(exported.moments)} moments.",
            hint="Export as otio or fcpxml, or only `refined=true`.",
        )
    lines = [
        f"TITLE: {one_line(video.title)[:_LONGEST_TITLE]}",
        f"FCM: {'' if is_drop_frame(rate) else 'NON-'}DROP FRAME",
    ]
    record = _first_record_frame(rate)
    day = frames_of_a_day(rate)
    channels = "/".join([*(["AA"] if video.has_audio else []), *(["V"] if video.has_video else [])])
    for number, moment in enumerate(exported.moments, 1):
        first, end = frame_range(moment, rate)
        record_end = record + end - first
        if max(end, record_end) >= day:  # an event's end is the frame after its last: at 24 hours that is written as 0
            raise Conflict(
                f"Timecode ends before {DAY_HOURS} hours, and moment {moment.identifier} does not.",
                hint="Export as otio or fcpxml, which have no such limit.",
            )
        times = " ".join(timecode(frame, rate) for frame in (first, end, record, record_end))
        lines += [
            "",
            f"{number:03}  {_reel(video.identifier):<8} {channels:<5} C        {times}",
            f"* FROM CLIP NAME: {one_line(video.file_name)}",
            f"* LOC: {timecode(record, rate).replace(';', ':')} GREEN   {one_line(moment.title)}",
            f"* COMMENT: {_remark(moment.identifier, moment.score)}",
        ]
        record = record_end
    return "\r\n".join([*lines, ""])


def _first_record_frame(rate: Fraction) -> int:
    return frames_of_a_day(rate) // DAY_HOURS * _RECORD_HOUR


def _remark(identifier: str, score: int | None) -> str:
    return f"VIDEOMOMENTS {identifier}" + (f" SCORE {score}" if score is not None else "")


def _reel(identifier: str) -> str:
    """Eight letters and digits: more than that, the format has no room for."""
    return re.sub(r"[^A-Z0-9]", "", identifier.upper())[:8] or "AX"
