"""Clips, measured from what is drawn in them: frame numbers and tones tell where every picture and sound belongs."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import pytest

from tests.media.make import frame_numbers, tones
from videomoments_dagster.errors import InvalidInput, MediaCrashed
from videomoments_dagster.media.cut import CutFailure, CutRequest, CutResult, cut_clips
from videomoments_dagster.media.keyframes import KeyframeIndex, keyframe_index
from videomoments_dagster.media.native import measuring
from videomoments_dagster.media.probe import MediaInfo, probe

FRAME = 1 / 25
Drawn = Callable[..., Path]
_frames_of, _tones_of = cache(frame_numbers), cache(tones)


def _cut(source: Path, directory: Path, *ranges: tuple[float, float]) -> list[CutResult]:
    requests = [CutRequest(str(n), a, b, directory / f"clip-{n}.mp4") for n, (a, b) in enumerate(ranges)]
    results = cut_clips(source, requests, keyframe_index(source))
    assert [result.key for result in results] == [request.key for request in requests]
    for result in results:
        assert isinstance(result, CutResult), result
    return [result for result in results if isinstance(result, CutResult)]


def _check(source: Path, result: CutResult, wanted: tuple[float, float], *, slack: float = 0.0) -> None:
    """The file holds what the result says: pictures and sounds of the source, where the times say, in sync."""
    zero = measuring.probe(str(source))["start_time_seconds"]
    shown = {number: seconds - zero for seconds, number in _frames_of(source)}
    assert result.start_seconds <= wanted[0] + 0.001
    assert result.end_seconds >= wanted[1] - FRAME - slack
    frames = frame_numbers(result.destination)
    numbers = [number for _, number in frames]
    assert numbers == [n for n in shown if numbers[0] <= n <= numbers[-1]], "frames are missing"
    assert frames[0][0] == pytest.approx(0.0, abs=0.002)
    if numbers[0] != min(shown):  # before its first frame a video shows that frame
        assert shown[numbers[0]] <= result.start_seconds + 0.002 + slack
    assert result.start_seconds + 0.002 < shown[numbers[0] + 1] + slack
    for seconds, number in frames[1:]:  # a clip may open in the middle of a frame
        assert seconds + result.start_seconds == pytest.approx(shown[number], abs=0.003 + slack)
    if result.audio_codec:
        sounding = {second: seconds - zero for seconds, second in _tones_of(source)}
        heard = {second: seconds for seconds, second in tones(result.destination)}
        due = {n for n, at in sounding.items() if result.start_seconds < at < result.end_seconds - 0.15}
        assert due <= heard.keys()
        for second in due:
            assert heard[second] + result.start_seconds == pytest.approx(sounding[second], abs=0.003 + slack)
    info = MediaInfo(**measuring.probe(str(result.destination)))
    assert result.duration_seconds == pytest.approx(info.duration_seconds, abs=FRAME)
    assert result.end_seconds - result.start_seconds == pytest.approx(result.duration_seconds)
    assert result.size_bytes == result.destination.stat().st_size
    assert info.video_codec == result.video_codec == "h264"
    assert info.resolution == result.resolution


def test_clips_start_on_keyframes_and_hold_what_their_times_say(drawn: Drawn, tmp_path: Path) -> None:
    ranges = [(0.0, 2.0), (2.4, 5.3), (3.0, 4.0), (6.9, 99.0), (1.01, 1.31)]
    source = drawn()
    results = _cut(source, tmp_path, *ranges)
    for result, wanted in zip(results, ranges, strict=True):
        assert result.mode == "copy"
        assert result.start_seconds == pytest.approx(int(wanted[0]), abs=0.001)  # a keyframe every second
        _check(source, result, (wanted[0], min(wanted[1], 8.0)))
        assert result.end_seconds <= min(wanted[1], 8.0) + 5 * FRAME  # at most to the end of a group of B-frames


def test_the_last_b_frames_of_a_copied_clip_have_what_they_refer_to(drawn: Drawn, tmp_path: Path) -> None:
    ends = [4.0 + n * FRAME for n in range(5)]
    source = drawn()
    for result in _cut(source, tmp_path, *((3.0, end) for end in ends)):
        with av.open(str(result.destination)) as clip:
            assert not any(frame.is_corrupt for frame in clip.decode(video=0))
        _check(source, result, (3.0, result.end_seconds))


def test_a_far_keyframe_means_encoding_from_exactly_the_wanted_start(drawn: Drawn, tmp_path: Path) -> None:
    ranges = [(4.0, 6.0), (3.333, 5.0), (7.5, 99.0)]
    source = drawn("long-gop.mp4", gop=250)
    for result, wanted in zip(_cut(source, tmp_path, *ranges), ranges, strict=True):
        assert result.mode == "reencode"
        assert result.start_seconds == wanted[0]
        _check(source, result, (wanted[0], min(8.0, wanted[1])))


@pytest.mark.parametrize(
    ("name", "properties", "mode", "slack"),
    [
        ("a.mkv", {}, "copy", 0.002),
        ("a.ts", {"starts_at": 5000.0}, "copy", 0.0),
        ("a.mov", {"container": "mov"}, "copy", 0.0),
        ("late.mp4", {"starts_at": 10.0}, "copy", 0.0),
        ("fragmented.mp4", {"muxing": (("movflags", "frag_keyframe+empty_moov"),)}, "copy", 0.0),
        ("silent.mp4", {"audio": None}, "copy", 0.0),
        ("no-b.mp4", {"b_frames": 0}, "copy", 0.0),
        ("high444.mp4", {"pixels": "yuv444p"}, "reencode", 0.0),
        ("odd.mp4", {"pixels": "yuv444p", "width": 161, "height": 97}, "reencode", 0.0),
        ("opus.mkv", {"audio": "libopus", "audio_rate": 48_000}, "copy", 0.008),
        ("surround.mkv", {"audio": "ac3", "audio_rate": 48_000, "audio_channels": "5.1"}, "copy", 0.008),
        (
            "a.webm",
            {"codec": "libvpx", "audio": "libopus", "audio_rate": 48_000, "audio_channels": "stereo", "b_frames": 0},
            "reencode",
            0.008,
        ),
        ("a.avi", {"codec": "mpeg4", "audio": "libmp3lame", "b_frames": 0}, "reencode", 0.03),
    ],
)
def test_every_kind_of_source_gives_exact_clips_that_browsers_play(
    drawn: Drawn, tmp_path: Path, name: str, properties: dict[str, object], mode: str, slack: float
) -> None:
    source = drawn(name, seconds=4.0, **properties)
    ranges = [(0.0, 1.5), (2.2, 3.6)]
    for result, wanted in zip(_cut(source, tmp_path, *ranges), ranges, strict=True):
        assert result.mode == mode
        assert result.audio_codec == (
            None if "silent" in name else "mp3" if mode == "copy" and "mp3" in name else "aac"
        )
        _check(source, result, wanted, slack=slack)


def test_a_variable_frame_rate_keeps_every_frame_at_its_time(drawn: Drawn, tmp_path: Path) -> None:
    for gop, mode in ((25, "copy"), (250, "reencode")):
        source = drawn("variable.mp4", gop=gop, shown=_irregular)
        (result,) = _cut(source, tmp_path, (3.6, 7.0))
        assert result.mode == mode
        frames = frame_numbers(result.destination)
        for seconds, number in frames[1:]:
            assert seconds + result.start_seconds == pytest.approx(number / 25, abs=0.003)
        shown = [n for n in range(200) if _irregular(n) and frames[0][1] < n < 7.0 * 25 - 0.1]
        assert [number for _, number in frames[1 : len(shown) + 1]] == shown


def _irregular(number: int) -> bool:
    return number % 25 == 0 or number % 7 in {0, 1, 4}


def test_sound_that_ends_early_leaves_the_picture_whole(drawn: Drawn, tmp_path: Path) -> None:
    copied, beyond = _cut(drawn("short-sound.mp4", audio_until=3.0), tmp_path, (1.0, 6.0), (5.0, 7.0))
    _check_picture(copied, 1.0, 6.0)
    _check_picture(beyond, 5.0, 7.0)
    assert {second for _, second in tones(copied.destination)} == {1, 2}


def test_sound_that_begins_late_stays_where_it_belongs(drawn: Drawn, tmp_path: Path) -> None:
    (result,) = _cut(drawn("late-sound.mp4", audio_from=2.5), tmp_path, (1.0, 6.0))
    _check_picture(result, 1.0, 6.0)
    for seconds, second in tones(result.destination):
        assert seconds + result.start_seconds == pytest.approx(second, abs=0.004)


def _check_picture(result: CutResult, start: float, end: float) -> None:
    frames = frame_numbers(result.destination)
    assert frames[0] == (0.0, round(start * 25))
    assert frames[-1][1] >= end * 25 - 1
    assert all(t + start == pytest.approx(n / 25, abs=0.002) for t, n in frames)


def test_a_turned_picture_stays_upright_copied_or_encoded(drawn: Drawn, tmp_path: Path) -> None:
    source = drawn("turned.mp4", rotation=90, gop=250)
    assert probe(source).resolution == "96x160"
    copied, encoded = _cut(source, tmp_path, (0.0, 1.0), (5.0, 6.0))
    assert (copied.mode, encoded.mode) == ("copy", "reencode")
    assert copied.resolution == encoded.resolution == "96x160"
    assert (probe(copied.destination).rotation_degrees, probe(encoded.destination).rotation_degrees) == (90, 0)


def test_a_clip_that_can_not_be_cut_does_not_lose_the_others(drawn: Drawn, tmp_path: Path) -> None:
    source = drawn()
    requests = [
        CutRequest("good", 1.0, 2.0, tmp_path / "out/good.mp4"),
        CutRequest("outside", 50.0, 60.0, tmp_path / "out/outside.mp4"),
        CutRequest("also good", 2.0, 3.0, tmp_path / "out/% odd: -name.mp4"),
    ]
    good, outside, also_good = cut_clips(source, requests, keyframe_index(source))
    assert isinstance(good, CutResult)
    assert isinstance(also_good, CutResult)
    assert isinstance(outside, CutFailure)
    assert isinstance(outside.error, InvalidInput)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["% odd: -name.mp4", "good.mp4"]


def test_when_the_child_dies_only_the_clip_that_killed_it_fails(
    drawn: Drawn, tmp_path: Path, configure: Callable[..., None]
) -> None:
    """Every clip is tried alone after the shared child is gone; here none can live in the memory given."""
    source = drawn()
    index = keyframe_index(source)
    configure(media_memory_bytes=60 * 1024**2)
    requests = [CutRequest(key, 1.0, 2.0, tmp_path / f"out/{key}.mp4") for key in ("a", "b")]
    results = cut_clips(source, requests, index)
    assert all(isinstance(result, CutFailure) and isinstance(result.error, MediaCrashed) for result in results)
    assert [result.key for result in results] == ["a", "b"]
    assert not (tmp_path / "out").exists()


def test_progress_rises_to_one_over_copies_and_encodings_together(drawn: Drawn, tmp_path: Path) -> None:
    source = drawn("long-gop.mp4", gop=250)
    seen: list[float] = []
    ranges = [(0.5, 1.0), (4.0, 5.0), (6.0, 7.0)]
    requests = [CutRequest(str(n), a, b, tmp_path / f"{n}.mp4") for n, (a, b) in enumerate(ranges)]
    cut_clips(source, requests, keyframe_index(source), on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_an_index_that_lies_falls_back_to_encoding(drawn: Drawn, tmp_path: Path) -> None:
    """A cached index of a file that was replaced since: the clip is still what its times say."""
    stale = KeyframeIndex((0.0, 2.5), 0.0, 8.0, copyable=True)
    (result,) = cut_clips(drawn(), [CutRequest("x", 3.0, 5.0, tmp_path / "x.mp4")], stale)
    assert isinstance(result, CutResult)
    assert result.mode == "reencode"
    frames = frame_numbers(result.destination)
    assert frames[0] == (0.0, 62)
    assert all(t + 2.5 == pytest.approx(n / 25, abs=0.003) for t, n in frames[1:])


def test_the_index_lists_every_keyframe_and_the_true_end(drawn: Drawn) -> None:
    index = keyframe_index(drawn())
    assert index.times_seconds == pytest.approx(range(8))
    assert index.last_packet_end_seconds == pytest.approx(8.0, abs=0.03)
    assert index.copyable


def test_keyframes_that_need_earlier_pictures_are_no_place_to_cut(drawn: Drawn) -> None:
    """Open groups: x264 marks recovery points, which a browser's hardware decoder refuses to start at."""
    source = drawn("open.ts", coding=(("x264-params", "open-gop=1:bframes=3:keyint=25:scenecut=0"),))
    assert keyframe_index(source).times_seconds == pytest.approx([0.0], abs=0.03)


def test_a_destination_that_can_not_be_written_is_that_clips_failure(drawn: Drawn, tmp_path: Path) -> None:
    blocked = tmp_path / "file-not-directory"
    blocked.write_text("x")
    requests = [CutRequest("x", 1.0, 2.0, blocked / "x.mp4"), CutRequest("y", 1.0, 2.0, tmp_path / "y.mp4")]
    refused, written = cut_clips(drawn(), requests, keyframe_index(drawn()))
    assert isinstance(refused, CutFailure)
    assert isinstance(written, CutResult)
    assert blocked.read_text() == "x"
