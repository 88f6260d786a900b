"""The builtin finder through its door: limits, order, boundaries, counts, and what it says when there is nothing."""

import random
import time

import pytest

from tests.moments.talks import talk, topic_edges
from videomoments_dagster.errors import InvalidTranscript
from videomoments_dagster.models.builtin.moments import BuiltinMoments
from videomoments_dagster.moments.moment import FindOptions, FindResult
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word


def find(transcript: Transcript, options: FindOptions | None = None) -> FindResult:
    return BuiltinMoments().find(transcript, options or FindOptions()).result


def _asked(seed: int) -> tuple[Transcript, FindOptions]:
    chance = random.Random(seed)
    transcript = talk(
        seed,
        chance.choice((5, 20, 45, 90, 300, 900)),
        topics=chance.randint(1, 8),
        punctuation=chance.random() < 0.5,
        longest_pause_seconds=chance.choice((0, 0.3, 2)),
    )
    shortest_ms = chance.choice((500, 5_000, 15_000, 60_000))
    fewest, most = chance.choice((None, 0, 1, 3, 10)), chance.choice((None, 1, 4, 12))
    if fewest and most:
        most = max(fewest, most)
    return transcript, FindOptions(shortest_ms, shortest_ms * chance.choice((1, 2, 5, 40)), fewest, most)


@pytest.mark.parametrize("seed", range(60))
def test_every_limit_is_kept_whatever_is_asked(seed: int) -> None:
    transcript, options = _asked(seed)
    result = find(transcript, options)
    units = (*transcript.sentences, *transcript.words)
    starts, ends = {u.start_ms for u in units}, {u.end_ms for u in units}
    for moment in result.moments:
        assert options.min_length_ms <= moment.end_ms - moment.start_ms <= options.max_length_ms
        assert moment.start_ms in starts
        assert moment.end_ms in ends
        assert 0 <= moment.score <= 10
        assert moment.reason.endswith(".")
    for before, after in zip(result.moments, result.moments[1:], strict=False):
        assert before.end_ms <= after.start_ms
    assert options.max_moments is None or len(result.moments) <= options.max_moments
    assert bool(result.moments) != bool(result.reason)


@pytest.mark.parametrize("seed", range(20))
def test_moments_begin_and_end_with_sentences_when_sentences_fit(seed: int) -> None:
    transcript = talk(seed, 600, topics=5, longest_pause_seconds=1)
    result = find(transcript)
    assert {m.start_ms for m in result.moments} <= {s.start_ms for s in transcript.sentences}
    assert {m.end_ms for m in result.moments} <= {s.end_ms for s in transcript.sentences}


@pytest.mark.parametrize("seconds", [90, 600, 3600])
@pytest.mark.parametrize("punctuation", [True, False])
def test_topics_with_their_own_words_are_told_apart(seconds: int, punctuation: bool) -> None:
    topics = 4 if seconds < 3600 else 16
    transcript = talk(1, seconds, topics=topics, punctuation=punctuation)
    starts = [m.start_ms for m in find(transcript).moments][1:]
    tolerance_ms = 15_000
    found = [e for e in topic_edges(transcript, topics) if any(abs(e - s) <= tolerance_ms for s in starts)]
    assert len(found) >= 0.75 * (topics - 1)
    assert len(starts) <= 1.5 * topics


def test_the_same_transcript_gives_the_same_moments() -> None:
    assert find(talk(3, 900)) == find(talk(3, 900))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_as_many_moments_as_asked_for(count: int) -> None:
    result = find(talk(4, 900, topics=5), FindOptions(min_moments=count, max_moments=count))
    assert len(result.moments) == count


def test_too_many_moments_asked_for_gives_as_many_as_fit() -> None:
    result = find(talk(5, 120), FindOptions(min_length_ms=30_000, min_moments=50))
    assert 2 <= len(result.moments) <= 4


def test_few_short_moments_are_picked_when_the_limits_forbid_covering_the_talk() -> None:
    result = find(talk(6, 1800, topics=6), FindOptions(max_length_ms=30_000, max_moments=3))
    assert len(result.moments) == 3


@pytest.mark.parametrize(
    ("transcript", "reason"),
    [
        (Transcript((), ()), "No speech was heard."),
        (Transcript((Word("hello", 0, 400),), (Sentence("Hello.", 0, 400),)), "Too few words (1)"),
        (Transcript((), (Sentence("   ", 0, 60_000),)), "No speech was heard."),
        (talk(7, 10), "long"),
    ],
)
def test_too_little_speech_is_a_result_with_its_reason(transcript: Transcript, reason: str) -> None:
    result = find(transcript)
    assert result.moments == ()
    assert reason in result.reason


def test_words_alone_are_enough() -> None:
    said = talk(8, 120, longest_pause_seconds=2)
    assert len(find(Transcript(said.words, ())).moments) >= 2


def test_one_endless_sentence_is_cut_between_words() -> None:
    words = tuple(Word(text, 400 * k, 400 * k + 350) for k, text in enumerate(["bread", "the", "oven", "walk"] * 1000))
    transcript = Transcript(words, (Sentence(" ".join(w.text for w in words), 0, words[-1].end_ms),))
    result = find(transcript)
    assert len(result.moments) >= 3
    assert {m.start_ms for m in result.moments} <= {w.start_ms for w in words}
    assert all(m.end_ms - m.start_ms <= 600_000 for m in result.moments)


def test_an_endless_sentence_without_words_gives_no_moment_and_the_reason() -> None:
    transcript = Transcript((), (Sentence("bread oven " * 500, 0, 3_600_000),))
    assert "15 to 600 s" in find(transcript).reason


@pytest.mark.parametrize("kind", ["words", "sentences"])
def test_a_transcript_out_of_order_is_refused(kind: str) -> None:
    said = talk(9, 120)
    words = (*said.words[20:], *said.words[:20]) if kind == "words" else said.words
    sentences = (*said.sentences[5:], *said.sentences[:5]) if kind == "sentences" else said.sentences
    with pytest.raises(InvalidTranscript, match=r"starts at 0\.0 s, after one that starts at"):
        find(Transcript(tuple(words), tuple(sentences)))


def test_a_sentence_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidTranscript, match="before it starts"):
        find(Transcript((), (Sentence("Hello there.", 5_000, 4_000),)))


def test_neighbours_swapped_by_a_breath_are_put_right() -> None:
    said = talk(10, 300)
    sentences = list(said.sentences)
    late = sentences[8]
    sentences[8] = Sentence(late.text, sentences[9].start_ms + 300, max(late.end_ms, sentences[9].start_ms + 400))
    result = find(Transcript((), tuple(sentences)))
    assert all(a.end_ms <= b.start_ms for a, b in zip(result.moments, result.moments[1:], strict=False))


def test_an_hour_takes_less_than_two_seconds() -> None:
    hour = talk(11, 3600, topics=18)
    began = time.process_time()
    assert 8 <= len(find(hour).moments) <= 40
    assert time.process_time() - began < 2


@pytest.mark.slow
def test_ten_hours_are_divided_and_titled() -> None:
    moments = find(talk(12, 36_000, topics=150)).moments
    assert 60 <= len(moments) <= 300
    assert len({m.title.casefold() for m in moments}) == len(moments)
