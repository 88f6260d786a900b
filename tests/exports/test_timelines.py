"""EDL, OTIO and Final Cut XML are read back by readers that are not ours: the frames are those of the moments."""

import itertools
import xml.etree.ElementTree as ET
from fractions import Fraction
from typing import Any

import opentimelineio as otio
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from tests.exports.moment_sets import RATES, TEN_HOURS_SECONDS, VARIABLE_RATE, moment, moment_set, moment_sets
from videomoments_dagster.errors import Conflict
from videomoments_dagster.exports.edl import to_edl
from videomoments_dagster.exports.fcpxml import to_fcpxml
from videomoments_dagster.exports.frames import frames_of_a_day, nominal_rate, timecode
from videomoments_dagster.exports.moment_set import MomentSet
from videomoments_dagster.exports.timeline import to_otio

Range = tuple[Fraction, Fraction]
few_examples = hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read_otio(text: str, adapter: str = "otio_json", **options: Any) -> list[otio.schema.Clip]:
    timeline: Any = otio.adapters.read_from_string(text, adapter, **options)
    return list(timeline.video_tracks()[0].find_clips())


def otio_ranges(clips: list[otio.schema.Clip], rate: Fraction) -> list[Range]:
    """Whole frames of the exact rate: the library's own is a float next to it."""
    ranges = []
    for clip in clips:
        source = clip.source_range
        assert source is not None and source.start_time.rate == pytest.approx(float(rate), rel=1e-6)
        first, end = source.start_time.value, source.end_time_exclusive().value
        assert first == int(first) and end == int(end)
        ranges.append((int(first) / rate, int(end) / rate))
    return ranges


def read_fcpxml(text: str) -> tuple[ET.Element, list[Range]]:
    root = ET.fromstring(text)  # noqa: S314  # our own
    clips = root.findall("./library/event/project/sequence/spine/asset-clip")
    starts = [_seconds(clip.get("start")) for clip in clips]
    return root, [(s, s + _seconds(clip.get("duration"))) for s, clip in zip(starts, clips, strict=True)]


def _seconds(value: str | None) -> Fraction:
    assert value is not None and value.endswith("s")
    return Fraction(value[:-1])


def assert_frame_exact(exported: MomentSet, ranges: list[Range]) -> None:
    """Half a frame off at most, and nothing overlaps that did not."""
    half = 1 / (2 * nominal_rate(exported.video.frame_rate))
    assert len(ranges) == len(exported.moments)
    for given_moment, (start, end) in zip(exported.moments, ranges, strict=True):
        assert abs(given_moment.start - start) <= half
        assert abs(given_moment.end - end) <= half
        assert start < end
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ranges))


@few_examples
@given(moment_sets())
def test_otio_holds_the_frames(exported: MomentSet) -> None:
    clips = read_otio(to_otio(exported))
    assert_frame_exact(exported, otio_ranges(clips, nominal_rate(exported.video.frame_rate)))


@few_examples
@given(moment_sets())
def test_an_edl_holds_the_frames(exported: MomentSet) -> None:
    """Read by OpenTimelineIO's adapter for CMX 3600."""
    rate = nominal_rate(exported.video.frame_rate)
    clips = read_otio(to_edl(exported), "cmx_3600", rate=float(rate))
    assert_frame_exact(exported, otio_ranges(clips, rate))


@few_examples
@given(moment_sets())
def test_final_cut_xml_holds_the_frames(exported: MomentSet) -> None:
    root, ranges = read_fcpxml(to_fcpxml(exported))
    assert_frame_exact(exported, ranges)
    rate = nominal_rate(exported.video.frame_rate)
    assert _seconds(root.find("./resources/format").get("frameDuration")) == 1 / rate  # pyright: ignore
    for element in root.iter():
        for name in ("start", "duration", "offset"):
            if (value := element.get(name)) is not None:
                assert (_seconds(value) * rate).denominator == 1, "Final Cut refuses what is not on a frame boundary"


@pytest.mark.parametrize("frame_rate", [*RATES, VARIABLE_RATE])
def test_final_cut_xml_is_read_by_the_adapter_too(frame_rate: float) -> None:
    """OpenTimelineIO's adapter knows whole rates only; at others it is asked for the clips, not their frames."""
    exported = moment_set(moment(1, 10.0, 20.5), moment(2, TEN_HOURS_SECONDS + 1.25, 36_100.0), frame_rate=frame_rate)
    collection: Any = otio.adapters.read_from_string(to_fcpxml(exported), "fcpx_xml")
    clips = list(collection.find_clips())
    assert [clip.name for clip in clips] == ["Moment 1", "Moment 2"]
    rate = nominal_rate(frame_rate)
    if rate.denominator == 1:
        assert_frame_exact(exported, otio_ranges(clips, rate))


def test_a_timeline_says_what_is_known_of_each_moment() -> None:
    exported = moment_set(moment(1, 1.0, 2.0, title="One\n<&>", score=None), moment(2, 3.0, 4.0, is_refined=True))
    first, second = read_otio(to_otio(exported))
    assert first.name == "One <&>"
    reference = first.media_reference
    assert isinstance(reference, otio.schema.ExternalReference)
    assert reference.target_url == "motivation-talk.mp4"
    assert reference.available_range.duration.to_seconds() == pytest.approx(12 * 3600, abs=0.02)
    assert dict(first.metadata["videomoments"]) == {
        "moment_id": f"{1:016x}",
        "parent_id": None,
        "is_refined": False,
        "score": None,
        "model_name": "builtin_moments",
        "start_time": 1.0,
        "end_time": 2.0,
    }
    assert second.metadata["videomoments"]["is_refined"]
    assert [marker.name for marker in second.markers] == ["Moment 2"]


def test_an_edl_in_full() -> None:
    """Drop-frame at 29.97; the program starts at one o'clock and has no holes."""
    exported = moment_set(moment(1, 59.0, 61.0, title="Over\nthe minute"), moment(2, 600.0, 601.0, score=None))
    assert to_edl(exported).split("\r\n") == [
        "TITLE: Motivation & <more>",
        "FCM: DROP FRAME",
        "",
        "001  MOTIVATI AA/V  C        00:00:58;28 00:01:01;00 01:00:00;00 01:00:02;00",
        "* FROM CLIP NAME: motivation-talk.mp4",
        "* LOC: 01:00:00:00 GREEN   Over the minute",
        "* COMMENT: VIDEOMOMENTS 0000000000000001 SCORE 7",
        "",
        "002  MOTIVATI AA/V  C        00:10:00;00 00:10:01;00 01:00:02;00 01:00:03;00",
        "* FROM CLIP NAME: motivation-talk.mp4",
        "* LOC: 01:00:02:00 GREEN   Moment 2",
        "* COMMENT: VIDEOMOMENTS 0000000000000002",
        "",
    ]
    [clip, _] = read_otio(to_edl(exported), "cmx_3600", rate=29.97002997002997)
    assert [marker.name for marker in clip.markers] == ["Over the minute"]


def test_of_a_file_of_sound_alone_no_picture_is_promised() -> None:
    sound = moment_set(moment(1, 1.0, 2.0), has_video=False, width=None, height=None)
    assert "001  MOTIVATI AA    C        " in to_edl(sound)
    root, ranges = read_fcpxml(to_fcpxml(sound))
    assert_frame_exact(sound, ranges)
    asset, clip = root.find("./resources/asset"), root.find(".//asset-clip")
    assert asset is not None and clip is not None
    assert (asset.get("hasAudio"), asset.get("hasVideo"), asset.get("videoSources")) == ("1", None, None)
    assert (asset.get("format"), clip.get("format")) == (None, None)
    timeline: Any = otio.adapters.read_from_string(to_otio(sound), "otio_json")
    assert [track.kind for track in timeline.tracks] == [otio.schema.TrackKind.Audio]


@pytest.mark.parametrize("rate", [nominal_rate(rate) for rate in RATES])
def test_timecode_agrees_with_another_counter(rate: Fraction) -> None:
    day = frames_of_a_day(rate)
    for frame in (0, 1, 1799, 1800, 17981, 17982, 35963, 35964, 1_000_000, day - 1):
        theirs = otio.opentime.to_timecode(otio.opentime.RationalTime(frame, float(rate)), float(rate))
        assert timecode(frame, rate) == theirs
    assert timecode(day, rate) == timecode(0, rate)


def test_what_an_edl_cannot_hold_is_said() -> None:
    behind = moment_set(moment(1, 86_300.0, 86_401.0), frame_rate=25.0)
    with pytest.raises(Conflict, match="24 hours"):
        to_edl(behind)
    with pytest.raises(Conflict, match="24 hours"):
        to_edl(moment_set(moment(1, 86_300.0, 86_400.0), frame_rate=25.0))
    assert " 23:59:59:24 " in to_edl(moment_set(moment(1, 86_300.0, 86_399.96), frame_rate=25.0))
    with pytest.raises(Conflict, match="999"):
        to_edl(moment_set(*(moment(number, number * 2.0, number * 2.0 + 1) for number in range(1000))))
    assert otio_ranges(read_otio(to_otio(behind)), Fraction(25)) == [(86_300, 86_401)]


@pytest.mark.parametrize(
    ("given_rate", "nominal"),
    [
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (29.41, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (59.9999, Fraction(60)),
        (119.88, Fraction(60000, 1001)),
        (12.5, Fraction(24000, 1001)),
        (None, Fraction(30)),
        (0.0, Fraction(30)),
    ],
)
def test_a_probed_rate_is_taken_for_the_standard_one_next_to_it(given_rate: float | None, nominal: Fraction) -> None:
    assert nominal_rate(given_rate) == nominal


def test_final_cut_xml_is_what_its_definition_wants() -> None:
    """The order and attributes that Apple's DTD of version 1.9 asks for, where a validating parser would stop."""
    exported = moment_set(moment(1, 10.0, 20.0, title="A & B"), moment(2, 30.0, 40.0))
    text = to_fcpxml(exported)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n<fcpxml version="1.9">')
    root, _ = read_fcpxml(text)
    assert [child.tag for child in root] == ["resources", "library"]
    form, asset = root.find("resources")  # pyright: ignore
    assert (form.tag, form.get("id"), asset.tag, asset.get("format")) == ("format", "r1", "asset", "r1")
    [media] = asset
    assert (media.tag, media.attrib) == ("media-rep", {"kind": "original-media", "src": "./motivation-talk.mp4"})
    clips = root.findall(".//asset-clip")
    assert [[child.tag for child in clip] for clip in clips] == [["note", "marker"]] * 2
    assert clips[0].get("name") == "A & B"
    asset_end = _seconds(asset.get("duration"))
    ends = Fraction(0)
    for clip in clips:
        assert clip.get("ref") == "r2"
        assert _seconds(clip.get("offset")) == ends, "the storyline has no holes"
        ends += _seconds(clip.get("duration"))
        assert _seconds(clip.get("start")) + _seconds(clip.get("duration")) <= asset_end
    assert _seconds(root.find(".//sequence").get("duration")) == ends  # pyright: ignore
