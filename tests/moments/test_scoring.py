"""Scores: spread over the scale, explained, and moved by what they claim to measure."""

import random

import pytest

from tests.moments.talks import SUBJECTS, talk
from videomoments_dagster.models.builtin.moments import BuiltinMoments
from videomoments_dagster.moments.moment import FoundMoment, Score
from videomoments_dagster.moments.transcript import Transcript


def score(transcript: Transcript, start_ms: int, end_ms: int) -> Score:
    [given] = BuiltinMoments().score([FoundMoment(start_ms, end_ms, "", 0, "")], transcript).scores
    assert given
    return given


def test_one_whole_topic_scores_higher_than_parts_of_two() -> None:
    transcript = talk(1, 600, topics=4)
    starts = [s.start_ms for s in transcript.sentences]
    whole = score(transcript, min(s for s in starts if s > 150_000), max(s for s in starts if s < 300_000))
    halves = score(transcript, min(s for s in starts if s > 75_000), max(s for s in starts if s < 225_000))
    assert whole.value > halves.value


def test_cutting_into_a_sentence_costs_and_is_said() -> None:
    transcript = talk(2, 600, topics=4)
    first, last = transcript.sentences[10], transcript.sentences[25]
    clean = score(transcript, first.start_ms, last.end_ms)
    cut = score(transcript, first.start_ms + 400, last.end_ms - 400)
    assert cut.value <= clean.value
    assert "mid-thought" in cut.reason
    assert "mid-thought" not in clean.reason


def test_silence_scores_nothing() -> None:
    assert score(talk(3, 60), 3_600_000, 3_660_000) == Score(0, "Nothing is said in it.")


def test_a_talk_of_one_moment_can_be_scored() -> None:
    transcript = talk(4, 60, topics=1)
    assert 0 <= score(transcript, 0, transcript.sentences[-1].end_ms).value <= 10


def test_scores_are_spread_over_the_scale() -> None:
    chance = random.Random(1)
    found = []
    for seed in range(6):
        transcript = talk(seed, 900, topics=7, subjects=SUBJECTS[: 2 + seed])
        spans = [(start_ms, start_ms + chance.randint(5_000, 300_000)) for start_ms in range(0, 600_000, 100_000)]
        found += [score(transcript, *span).value for span in spans]
    assert max(found) - min(found) >= 5
    assert len(set(found)) >= 5


@pytest.mark.parametrize("seed", range(5))
def test_the_reason_is_a_sentence(seed: int) -> None:
    reason = score(talk(seed, 300), 0, 90_000).reason
    assert reason[0].isupper()
    assert reason.endswith(".")
