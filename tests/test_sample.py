"""The bundled talk: its file is small and ordinary, and what talk.json says about it is so."""

from itertools import pairwise

import av
import numpy as np

from tests.sample import RATE_HZ, TRUTH, VIDEO, talk


def test_the_file_is_small_and_plays_in_every_browser() -> None:
    assert VIDEO.stat().st_size < 3_000_000
    with av.open(str(VIDEO)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (audio.codec_context.name, audio.codec_context.layout.name) == ("aac", "mono")
        assert file.duration is not None
        assert abs(file.duration / 1e6 - TRUTH["duration_seconds"]) < 0.1
    assert VIDEO.read_bytes().find(b"moov") < VIDEO.read_bytes().find(b"mdat"), "the index is behind the media"


def test_a_clip_can_start_every_two_seconds() -> None:
    with av.open(str(VIDEO)) as file:
        stream = file.streams.video[0]
        assert stream.time_base is not None
        keyframes = [float(p.pts * stream.time_base) for p in file.demux(stream) if p.is_keyframe and p.pts is not None]
    assert keyframes[0] == 0
    assert max(later - earlier for earlier, later in pairwise(keyframes)) <= 2.0


def test_it_lasts_long_enough_to_have_moments() -> None:
    assert 90 <= TRUTH["duration_seconds"] <= 120
    assert len(TRUTH["topics"]) == 4
    assert all(topic["end_time"] - topic["start_time"] > 20 for topic in TRUTH["topics"])


def test_topics_and_sentences_lie_in_order_inside_the_talk() -> None:
    for items in (TRUTH["topics"], TRUTH["sentences"]):
        edges = [edge for item in items for edge in (item["start_time"], item["end_time"])]
        assert edges == sorted(edges)
        assert edges[0] > 0
        assert edges[-1] < TRUTH["duration_seconds"]
    for number, topic in enumerate(TRUTH["topics"]):
        own = [s for s in TRUTH["sentences"] if s["topic"] == number]
        assert (own[0]["start_time"], own[-1]["end_time"]) == (topic["start_time"], topic["end_time"])
        assert " ".join(s["text"] for s in own) == topic["text"]


def test_texts_and_words_agree() -> None:
    assert " ".join(topic["text"] for topic in TRUTH["topics"]) == TRUTH["text"]
    assert TRUTH["words"] == [word.strip(".,").lower() for word in TRUTH["text"].split()]


def test_the_sound_is_loud_in_sentences_and_quiet_between_them() -> None:
    sound = talk().astype(float)
    for sentence, following in pairwise(TRUTH["sentences"]):
        start, end, resumes = (
            round(seconds * RATE_HZ)
            for seconds in (sentence["start_time"], sentence["end_time"], following["start_time"])
        )
        margin = RATE_HZ // 20
        assert np.std(sound[start:end]) > 500
        assert np.std(sound[end + margin : resumes - margin]) < 20
