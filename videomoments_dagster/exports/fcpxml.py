"""Final Cut Pro XML 1.9: a project whose storyline is the moments one after the other, each a clip of the video.

Every time is a whole number of frames, written as a fraction of a second: Final Cut refuses others.
"""

import xml.etree.ElementTree as ET
from fractions import Fraction
from urllib.parse import quote

from videomoments_dagster.exports.frames import frame_range, is_drop_frame, nominal_rate, to_frames
from videomoments_dagster.exports.moment_set import ExportedVideo, MomentSet, one_line

VERSION = "1.9"  # Final Cut Pro 10.4.9 and newer read it; the first with <media-rep>
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'


def to_fcpxml(exported: MomentSet) -> str:
    """The video is looked for beside the file, by its name; Final Cut asks for it when it is not there."""
    video = exported.video
    rate = nominal_rate(video.frame_rate)
    counting = "DF" if is_drop_frame(rate) else "NDF"
    ranges = [frame_range(moment, rate) for moment in exported.moments]
    length = max([end for _, end in ranges] + [to_frames(video.duration, rate) if video.duration is not None else 1])

    root = ET.Element("fcpxml", version=VERSION)
    resources = ET.SubElement(root, "resources")
    _add_format(resources, video, rate)
    _add_asset(resources, video, _seconds(length, rate))
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name="VideoMoments")
    project = ET.SubElement(event, "project", name=one_line(video.title))
    sequence = ET.SubElement(
        project,
        "sequence",
        format="r1",
        duration=_seconds(sum(end - first for first, end in ranges), rate),
        tcStart="0s",
        tcFormat=counting,
    )
    spine = ET.SubElement(sequence, "spine")
    pictured = {"format": "r1"} if video.has_video else {}
    offset = 0
    for moment, (first, end) in zip(exported.moments, ranges, strict=True):
        clip = ET.SubElement(
            spine,
            "asset-clip",
            {
                "ref": "r2",
                "offset": _seconds(offset, rate),
                "name": one_line(moment.title),
                "start": _seconds(first, rate),
                "duration": _seconds(end - first, rate),
                **pictured,
                "tcFormat": counting,
            },
        )
        score = f", score {moment.score}" if moment.score is not None else ""
        ET.SubElement(clip, "note").text = f"VideoMoments {moment.identifier}{score}"
        one_frame = _seconds(1, rate)
        ET.SubElement(clip, "marker", start=_seconds(first, rate), duration=one_frame, value=one_line(moment.title))
        offset += end - first
    ET.indent(root)
    return _HEAD + ET.tostring(root, encoding="unicode") + "\n"


def _add_format(resources: ET.Element, video: ExportedVideo, rate: Fraction) -> None:
    size = {"width": str(video.width), "height": str(video.height)} if video.width and video.height else {}
    ET.SubElement(resources, "format", {"id": "r1", "frameDuration": _seconds(1, rate), **size})


def _add_asset(resources: ET.Element, video: ExportedVideo, duration: str) -> None:
    picture = {"hasVideo": "1", "videoSources": "1", "format": "r1"} if video.has_video else {}
    sound = {"hasAudio": "1", "audioSources": "1"} if video.has_audio else {}
    asset = ET.SubElement(
        resources,
        "asset",
        {
            "id": "r2",
            "name": one_line(video.file_name),
            "start": "0s",
            "duration": duration,
            **picture,
            **sound,
        },
    )
    ET.SubElement(asset, "media-rep", kind="original-media", src=f"./{quote(video.file_name)}")


def _seconds(frames: int, rate: Fraction) -> str:
    """`1001/30000s`, a whole multiple of the frame's duration; whole seconds without a fraction."""
    time = frames / rate
    if time.denominator == 1:
        return f"{time.numerator}s"
    return f"{frames * rate.denominator}/{rate.numerator}s"
