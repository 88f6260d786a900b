"""Captions are read back by webvtt-py and FFmpeg, and keep to what people can read, whatever the words' times are."""

import io
import itertools
from typing import Any

import av
import pytest
import webvtt
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from videomoments_dagster.exports.caption_files import to_srt, to_vtt
from videomoments_dagster.exports.captions import GAP_MS, LINE_WIDTH, LONGEST_MS, SHORTEST_MS, Cue, to_cues, words_of
from videomoments_dagster.exports.moment_set import one_line

Row = dict[str, Any]


def say(text: str, start: float = 0.0, each: float = 0.3) -> list[Row]:
    """Words one right after the other."""
    return [
        {"word": word, "start": start + number * each, "end": start + (number + 1) * each}
        for number, word in enumerate(text.split())
    ]


def cues_of(words: list[Row], segments: list[Row] | None = None) -> list[Cue]:
    return to_cues(words_of(words, segments or []))


def texts(cues: list[Cue]) -> list[str]:
    return [" ".join(cue.lines) for cue in cues]


words_of_any_kind = st.lists(
    st.builds(
        lambda word, start, end: {"word": word, "start": start, "end": end},
        st.text(min_size=0, max_size=60),
        st.none() | st.floats(0, 90_000),
        st.none() | st.floats(0, 90_000),
    ),
    max_size=60,
)


def times_as_players_read(srt: str) -> list[tuple[int, int]]:
    """By FFmpeg's own reader, which players have. Milliseconds."""
    if not srt:
        return []
    with av.open(io.BytesIO(srt.encode()), "r", format="srt") as container:
        read = [(packet.pts, packet.duration or 0) for packet in container.demux()]
    return [(start, start + duration) for start, duration in read if start is not None]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words_of_any_kind)
def test_whatever_the_words_are_cues_are_in_order_and_hold_them_all(words: list[Row]) -> None:
    cues = cues_of(words)
    for cue in cues:
        assert 0 <= cue.start_ms < cue.end_ms
        assert 1 <= len(cue.lines) <= 2
        assert all(line.strip() for line in cue.lines)
    assert all(before.end_ms <= after.start_ms for before, after in itertools.pairwise(cues))
    shown = "".join("".join(text.split()) for text in texts(cues))
    assert sorted(shown) == sorted("".join("".join(one_line(word["word"]).split()) for word in words))
    assert times_as_players_read(to_srt(cues)) == [(c.start_ms, c.end_ms) for c in cues]
    assert len(webvtt.from_buffer(io.StringIO(to_vtt(cues)))) == len(cues)


speech = st.lists(
    st.tuples(
        st.text("abcdefghij", min_size=1, max_size=14),
        st.sampled_from(["", "", "", "", ",", "."]),
        st.integers(150, 700),
        st.sampled_from([0, 0, 0, 50, 300, 2000]),
    ),
    min_size=1,
    max_size=80,
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(speech)
def test_cues_of_speech_keep_to_the_guidelines(spoken: list[tuple[str, str, int, int]]) -> None:
    at, words = 0, []
    for word, mark, length, pause in spoken:
        words.append({"word": word + mark, "start": at / 1000, "end": (at + length) / 1000})
        at += length + pause
    cues = cues_of(words)
    assert texts(cues) and " ".join(texts(cues)).split() == [word["word"] for word in words], "no word is split"
    for cue, following in zip(cues, [*cues[1:], None], strict=True):
        assert max(map(len, cue.lines)) <= LINE_WIDTH
        assert cue.end_ms - cue.start_ms <= LONGEST_MS
        room = following is None or following.start_ms - cue.start_ms >= SHORTEST_MS + GAP_MS
        assert cue.end_ms - cue.start_ms >= SHORTEST_MS or not room
        assert following is None or following.start_ms - cue.end_ms >= GAP_MS


def test_cues_break_where_sentences_and_clauses_end() -> None:
    words = say(
        "This is the first sentence of it. When the second one comes along, which is much longer than a cue may"
    )
    words += say("ever be, it is cut after a comma.", start=words[-1]["end"])
    assert [cue.lines for cue in cues_of(words)] == [
        ("This is the first sentence of it.",),
        ("When the second one comes along, which", "is much longer than a cue may ever be,"),
        ("it is cut after a comma.",),
    ]


def test_a_short_word_stays_to_be_read_or_is_shown_with_the_next() -> None:
    alone = cues_of(say("Yes.") + say("That was long ago.", start=10))
    assert [(cue.start_ms, cue.end_ms) for cue in alone] == [(0, SHORTEST_MS), (10_000, 11_200)]
    assert texts(cues_of(say("Yes. That was long ago."))) == ["Yes. That was long ago."]


def test_nothing_said_is_taken_for_markup() -> None:
    cues = cues_of(say("a <b>bold</b> {x} & --> claim"))
    assert "a &lt;b&gt;bold&lt;/b&gt; {x} &amp; --&gt; claim" in to_vtt(cues)
    [caption] = webvtt.from_buffer(io.StringIO(to_vtt(cues)))
    assert caption.raw_text == "a &lt;b&gt;bold&lt;/b&gt; {x} &amp; --&gt; claim"
    [subtitle] = webvtt.from_buffer(io.StringIO(to_srt(cues)), format="srt")
    assert subtitle.raw_text == "a \u2039b\u203abold\u2039/b\u203a (x) & --\u203a claim"


def test_hours_are_written_past_ten() -> None:
    cues = cues_of(say("Late.", start=36_000.5))
    assert "10:00:00.500 --> 10:00:01.333\nLate." in to_vtt(cues)
    assert to_srt(cues).startswith("1\n10:00:00,500 --> 10:00:01,333\nLate.\n")


def test_languages_without_spaces_are_joined_and_cut_between_characters() -> None:
    japanese = cues_of(
        [{"word": word, "start": at, "end": at + 1} for at, word in enumerate(["今日は", "天気が", "いい。"])]
    )
    assert texts(japanese) == ["今日は天気がいい。"]
    sentences = "我们今天要讨论一个非常重要的问题。" * 4
    long = cues_of([{"word": sentences, "start": 0.0, "end": 20.0}])
    assert len(long) > 1
    assert all(len(line) <= 16 for cue in long for line in cue.lines)
    assert "".join(line for cue in long for line in cue.lines) == sentences


def test_segments_do_where_words_have_no_times() -> None:
    cues = cues_of([], [{"text": "Hello there.", "start": 2.0, "end": 4.0}])
    assert cues == [Cue(2000, 4000, ("Hello there.",))]
    assert cues_of([], []) == []
    assert to_vtt([]) == "WEBVTT\n"


@pytest.mark.parametrize(("start", "end", "expected"), [(1.0, 2.0, ["four five six seven"]), (50.0, 60.0, [])])
def test_a_clip_has_its_own_clock(start: float, end: float, expected: list[str]) -> None:
    words = words_of(say("one two three four five six seven eight"), [], start_seconds=start, end_seconds=end)
    assert texts(to_cues(words)) == expected
    assert all(0 <= word.start_ms < word.end_ms <= 1000 for word in words)
