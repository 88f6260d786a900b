"""Thumbnails: the right frame, upright, not blank; and the check that a JPEG decodes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media.make import frame_numbers
from videomoments_dagster.errors import MediaDamaged
from videomoments_dagster.media.native import measuring
from videomoments_dagster.media.thumbnail import (
    Thumbnail,
    ThumbnailFailure,
    ThumbnailRequest,
    image_sizes,
    make_thumbnails,
)

Drawn = Callable[..., Path]


def _make(source: Path, directory: Path, *seconds: float, width: int = 480) -> list[Thumbnail]:
    requests = [ThumbnailRequest(str(n), at, directory / f"{n}.jpg") for n, at in enumerate(seconds)]
    made = make_thumbnails(source, requests, width)
    assert [item.key for item in made] == [request.key for request in requests]
    return [item for item in made if isinstance(item, Thumbnail)]


@pytest.mark.parametrize("properties", [{}, {"gop": 250}, {"starts_at": 10.0}])
def test_a_thumbnail_shows_the_frame_of_its_time(drawn: Drawn, tmp_path: Path, properties: dict[str, object]) -> None:
    source, wanted = drawn("video.mp4", **properties), [3.0, 0.1, 6.5, 3.33, 99.0]
    made = _make(source, tmp_path, *wanted)
    zero = measuring.probe(str(source))["start_time_seconds"]
    shown = [[n for at, n in frame_numbers(source) if at - zero <= second + 0.001][-1] for second in wanted]
    assert [frame_numbers(item.destination)[0][1] for item in made] == shown
    assert [item.size_bytes for item in made] == [item.destination.stat().st_size for item in made]
    assert image_sizes([item.destination for item in made]) == [(160, 96)] * 5


def test_a_black_beginning_is_passed_over(drawn: Drawn, tmp_path: Path) -> None:
    (item,) = _make(drawn("fade.mp4", blank_until=1.3), tmp_path, 0.0)
    assert 1.3 <= item.at_seconds < 1.6
    assert frame_numbers(item.destination)[0][1] == round(item.at_seconds * 25)


def test_a_video_that_stays_black_still_has_a_thumbnail(drawn: Drawn, tmp_path: Path) -> None:
    assert len(_make(drawn("black.mp4", blank_until=99.0), tmp_path, 1.0)) == 1


def test_a_thumbnail_stands_upright_and_is_never_enlarged(drawn: Drawn, tmp_path: Path) -> None:
    source = drawn("turned.mp4", rotation=90, gop=250)
    (item,) = _make(source, tmp_path, 1.0)
    assert (item.width, item.height) == (96, 160)
    (small,) = _make(source, tmp_path, 1.0, width=48)
    assert (small.width, small.height) == (48, 80)
    assert image_sizes([small.destination]) == [(48, 80)]


def test_a_thumbnail_that_can_not_be_written_does_not_lose_the_others(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    good = ThumbnailRequest("good", 1.0, tmp_path / "good.jpg")
    bad = ThumbnailRequest("bad", 1.0, tmp_path / "file" / "bad.jpg")
    made = make_thumbnails(drawn(), [bad, good])
    assert isinstance(made[0], ThumbnailFailure)
    assert isinstance(made[1], Thumbnail)


def test_a_jpeg_that_is_none_or_cut_short_is_damaged(drawn: Drawn, tmp_path: Path) -> None:
    (item,) = _make(drawn(), tmp_path, 1.0)
    content = item.destination.read_bytes()
    short, text, empty, hollow = (tmp_path / name for name in ("short.jpg", "text.jpg", "empty.jpg", "hollow.jpg"))
    short.write_bytes(content[:-200])
    text.write_text("not a picture")
    empty.write_bytes(b"")
    hollow.write_bytes(content[:300] + b"\xff\xd9")
    sizes = image_sizes([short, item.destination, text, empty, hollow, tmp_path / "gone.jpg"])
    assert sizes[1] == (160, 96)
    assert all(isinstance(size, MediaDamaged) for number, size in enumerate(sizes) if number != 1)
