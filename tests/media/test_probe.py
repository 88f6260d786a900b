"""What a file is said to be, and how a file that is no video is refused. Files are drawn, cut off, or made up."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from videomoments_dagster.errors import MediaCrashed, MediaDamaged, MediaError, MediaTimeout, NotAVideo
from videomoments_dagster.media.native import measuring
from videomoments_dagster.media.probe import probe

Drawn = Callable[..., Path]


def test_a_web_video_is_measured(drawn: Drawn) -> None:
    source = drawn()
    info = probe(source)
    assert (info.container, info.extension, info.video_codec, info.audio_codec) == ("mp4", "mp4", "h264", "aac")
    assert (info.resolution, info.rotation_degrees, info.frame_rate) == ("160x96", 0, 25.0)
    assert info.duration_seconds == pytest.approx(8.0, abs=0.03)
    assert info.size_bytes == source.stat().st_size
    assert info.start_time_seconds == 0.0
    assert info.has_audio


@pytest.mark.parametrize(
    ("name", "properties", "container", "codecs", "duration"),
    [
        ("a.mkv", {}, "mkv", ("h264", "aac"), 8.0),
        ("a.ts", {"starts_at": 90_000.0}, "ts", ("h264", "aac"), 8.0),
        ("a.mov", {}, "mov", ("h264", "aac"), 8.0),
        ("a.flv", {}, "flv", ("h264", "aac"), 8.0),
        ("a.avi", {"codec": "mpeg4", "audio": "libmp3lame"}, "avi", ("mpeg4", "mp3"), 8.0),
        ("live.webm", {"codec": "libvpx", "audio": "libopus", "audio_rate": 48_000, "seconds": 2.0,
                       "muxing": (("live", "1"),)}, "webm", ("vp8", "opus"), 2.0),
        ("late.mp4", {"starts_at": 10.0}, "mp4", ("h264", "aac"), 8.0),
        ("silent.mp4", {"audio": None}, "mp4", ("h264", None), 8.0),
        ("longer-sound.mp4", {"audio_until": 8.0, "seconds": 6.0}, "mp4", ("h264", "aac"), 6.0),
        ("no-sound-at-the-end.mp4", {"audio_until": 3.0}, "mp4", ("h264", "aac"), 8.0),
        ("fragmented.mp4", {"muxing": (("movflags", "frag_keyframe+empty_moov"),)}, "mp4", ("h264", "aac"), 8.1),
    ],
)  # fmt: skip
def test_the_length_is_that_of_the_packets_whatever_the_header_says(
    drawn: Drawn,
    name: str,
    properties: dict[str, object],
    container: str,
    codecs: tuple[str, str | None],
    duration: float,
) -> None:
    info = measuring.probe(str(drawn(name, **properties)))
    assert (info["container"], info["video_codec"], info["audio_codec"]) == (container, *codecs)
    assert info["duration_seconds"] == pytest.approx(duration, abs=0.1)


def test_the_clock_starts_where_the_file_does(drawn: Drawn) -> None:
    assert measuring.probe(str(drawn("late.mp4", starts_at=10.0)))["start_time_seconds"] == pytest.approx(
        10.0, abs=0.03
    )


def test_a_turned_video_is_measured_as_it_is_shown(drawn: Drawn) -> None:
    info = measuring.probe(str(drawn("turned.mp4", rotation=90, gop=250)))
    assert (info["width"], info["height"], info["rotation_degrees"]) == (96, 160, 90)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!doctype html><title>Watch</title>" * 200, "not in a video format"),
        (b"plain words\n" * 500, "not in a video format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "not in a video format"),
        (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
            "not in a video format",
        ),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "not in a video format"),
        (b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>", "not in a video format"),
    ],
)
def test_what_is_no_video_is_refused_whatever_its_name(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "video.mp4"
    file.write_bytes(content)
    with pytest.raises(NotAVideo, match=said) as caught:
        probe(file)
    assert "video.mp4" in caught.value.message
    assert caught.value.hint


def test_a_playlist_named_mp4_does_not_lead_to_another_file(drawn: Drawn, tmp_path: Path) -> None:
    """FFmpeg opens a playlist by its content, and then the files it names."""
    playlist = tmp_path / "video.mp4"
    target = drawn("a.ts", starts_at=90_000.0)
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:8,\nfile://{target}\n#EXT-X-ENDLIST\n")
    with pytest.raises(NotAVideo):
        probe(playlist)


def test_sound_alone_is_not_a_video(drawn: Drawn, tmp_path: Path) -> None:
    file = tmp_path / "song.mp4"
    with av.open(str(drawn())) as source, av.open(str(file), "w") as output:
        track = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = track
                output.mux(packet)
    with pytest.raises(NotAVideo, match="only sound"):
        probe(file)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("name", ["talk.mp4", "front.mp4", "a.mkv"])
def test_a_truncated_file_is_damaged(drawn: Drawn, tmp_path: Path, name: str, kept: float) -> None:
    front = {"muxing": (("movflags", "faststart"),)} if name == "front.mp4" else {}
    content = drawn(name, seconds=16.0, **front).read_bytes()
    file = tmp_path / name
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(MediaDamaged, match=name):
        measuring.probe(str(file))


def test_a_file_without_a_decodable_frame_is_damaged(drawn: Drawn, tmp_path: Path) -> None:
    content = bytearray(drawn("silent.mp4", audio=None).read_bytes())
    at = content.index(b"mdat")
    size = struct.unpack(">I", content[at - 4 : at])[0]
    content[at + 4 : at - 4 + size] = bytes(size - 8)
    file = tmp_path / "zeros.mp4"
    file.write_bytes(content)
    with pytest.raises(MediaDamaged):
        probe(file)


@pytest.mark.parametrize("side", [12_000, 30_000, 65_000])
def test_pictures_that_claim_to_be_huge_cost_no_memory(
    drawn: Drawn, tmp_path: Path, configure: Callable[..., None], side: int
) -> None:
    """Frame headers of a motion JPEG are patched; 30000x30000 would need over a gigabyte a frame."""
    start_of_frame = b"\xff\xc0\x00\x11\x08"
    content = drawn("jpegs.mkv", codec="mjpeg", pixels="yuvj420p", b_frames=0, seconds=1.0, audio=None).read_bytes()
    lie = start_of_frame + struct.pack(">HH", side, side)
    assert start_of_frame in content
    file = tmp_path / "huge.mkv"
    file.write_bytes(re.sub(re.escape(start_of_frame) + b"....", lambda _: lie, content, flags=re.DOTALL))
    configure(media_memory_bytes=768 * 1024**2)
    with pytest.raises(MediaDamaged, match=r"huge\.mkv"):
        probe(file)


def test_the_header_of_the_container_is_not_believed_over_the_pictures(drawn: Drawn, tmp_path: Path) -> None:
    content = bytearray(drawn("moving.mp4", codec="mpeg4", b_frames=0, seconds=1.0, audio=None).read_bytes())
    at = content.index(b"mp4v")
    content[at + 28 : at + 32] = struct.pack(">HH", 65_000, 65_000)
    file = tmp_path / "huge.mp4"
    file.write_bytes(content)
    assert probe(file).resolution == "160x96"


def test_cover_art_is_not_the_video(drawn: Drawn, tmp_path: Path) -> None:
    file = tmp_path / "art.mp4"
    with av.open(str(drawn())) as source, av.open(str(file), "w") as output:
        art = output.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 640, 640, "yuvj420p"
        art.disposition = Disposition.attached_pic
        video = output.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame(640, 640, "yuvj420p")
        picture.pts = 0
        for packet in [*art.encode(picture), *art.encode(None)]:
            output.mux(packet)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    assert measuring.probe(str(file))["width"] == 160


@pytest.mark.parametrize("name", ["-dash.mp4", "per%cent %03d.mp4", "co:lon.mp4", "http:.mp4", "ünï\u2028.mp4"])
def test_odd_names_are_files_like_any_other(drawn: Drawn, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(drawn("silent.mp4", audio=None).read_bytes())
    assert measuring.probe(str(file))["container"] == "mp4"


def test_a_title_in_another_encoding_does_not_matter(drawn: Drawn, tmp_path: Path) -> None:
    with av.open(str(drawn())) as source, av.open(str(tmp_path / "a.mkv"), "w") as output:
        output.metadata["title"] = "Latin"
        video = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    content = (tmp_path / "a.mkv").read_bytes()
    assert b"Latin" in content
    (tmp_path / "a.mkv").write_bytes(content.replace(b"Latin", b"na\xefve"))
    assert measuring.probe(str(tmp_path / "a.mkv"))["container"] == "mkv"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        probe(tmp_path / "gone.mp4")


def test_a_child_without_time_is_ended(drawn: Drawn, configure: Callable[..., None]) -> None:
    configure(media_timeout_seconds=0.01)
    with pytest.raises(MediaTimeout) as caught:
        probe(drawn())
    assert "VIDEOMOMENTS_MEDIA_TIMEOUT_SECONDS" in caught.value.hint


def test_a_child_without_memory_is_a_crash_of_the_decoder_only(drawn: Drawn, configure: Callable[..., None]) -> None:
    configure(media_memory_bytes=60 * 1024**2)
    with pytest.raises(MediaCrashed):
        probe(drawn())
