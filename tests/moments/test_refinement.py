"""The builtin refiner: from a closed list, inside the clip and the limits, and never worse than it was."""

import random

import pytest

from tests.moments.talks import talk
from videomoments_dagster.models.builtin.moments import BuiltinMoments
from videomoments_dagster.moments.candidates import MOST, REACH_MS, end_candidates, start_candidates
from videomoments_dagster.moments.moment import FindOptions, FoundMoment, Refinement, Span
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word

_LIMITS = FindOptions(min_length_ms=5_000, max_length_ms=60_000)


def refine(moment: Span, clip: Span, transcript: Transcript, silences: list[Span] | None = None) -> Refinement:
    found = FoundMoment(moment.start_ms, moment.end_ms, "", 0, "")
    return BuiltinMoments().refine(found, clip, transcript, silences or [], _LIMITS).refinement


def _silences(transcript: Transcript) -> list[Span]:
    pairs = zip(transcript.sentences, transcript.sentences[1:], strict=False)
    return [Span(a.end_ms + 20, b.start_ms - 20) for a, b in pairs if b.start_ms - a.end_ms > 300]


@pytest.mark.parametrize("seed", range(60))
def test_the_result_is_inside_the_clip_and_the_limits_and_never_inside_a_word(seed: int) -> None:
    chance = random.Random(seed)
    transcript = talk(seed, 180, longest_pause_seconds=1.5)
    start_ms = chance.randint(10_000, 100_000)
    moment = Span(start_ms, start_ms + chance.randint(5_000, 60_000))
    clip = Span(moment.start_ms - chance.randint(0, 8_000), moment.end_ms + chance.randint(0, 8_000))
    refined = refine(moment, clip, transcript, _silences(transcript))
    assert clip.start_ms <= refined.start_ms < refined.end_ms <= clip.end_ms
    assert 5_000 <= refined.end_ms - refined.start_ms <= 60_000
    assert refined.reason.endswith(".")
    assert refined.changed == ((refined.start_ms, refined.end_ms) != (moment.start_ms, moment.end_ms))
    for moved, old in ((refined.start_ms, moment.start_ms), (refined.end_ms, moment.end_ms)):
        if moved != old:
            assert not any(w.start_ms < moved < w.end_ms for w in transcript.words)
            assert abs(moved - old) <= REACH_MS


def test_boundaries_inside_words_move_to_the_sentence_and_into_its_silence() -> None:
    transcript = talk(1, 120, longest_pause_seconds=2)
    sentences = transcript.sentences
    first = next(k for k in range(3, 10) if sentences[k].start_ms - sentences[k - 1].end_ms > 700)
    last = next(k for k in range(first + 3, 20) if sentences[k + 1].start_ms - sentences[k].end_ms > 700)
    moment = Span(sentences[first].start_ms + 700, sentences[last].end_ms - 600)
    clip = Span(moment.start_ms - 5_000, moment.end_ms + 5_000)
    refined = refine(moment, clip, transcript, _silences(transcript))
    assert sentences[first - 1].end_ms < refined.start_ms <= sentences[first].start_ms
    assert sentences[last].end_ms <= refined.end_ms < sentences[last + 1].start_ms
    assert "a sentence, in a silence" in refined.reason


def test_refining_twice_changes_nothing_more() -> None:
    transcript = talk(2, 120, longest_pause_seconds=2)
    silences = _silences(transcript)
    once = refine(Span(20_300, 60_200), Span(15_000, 66_000), transcript, silences)
    again = refine(Span(once.start_ms, once.end_ms), Span(15_000, 66_000), transcript, silences)
    assert once.changed
    assert not again.changed


def test_nothing_near_means_unchanged_with_the_reason() -> None:
    refined = refine(Span(50_000, 60_000), Span(45_000, 65_000), Transcript((), ()))
    assert refined == Refinement(50_000, 60_000, False, "No gap between words is near its boundaries.")


def test_a_moment_outside_its_clip_is_left_alone() -> None:
    refined = refine(Span(50_000, 60_000), Span(70_000, 80_000), talk(3, 120))
    assert not refined.changed
    assert "clip" in refined.reason


def test_a_clip_shorter_than_its_moment_bounds_the_result() -> None:
    refined = refine(Span(20_000, 50_000), Span(21_000, 49_000), talk(4, 120))
    assert refined.changed
    assert refined.start_ms >= 21_000
    assert refined.end_ms <= 49_000


def test_a_better_boundary_that_breaks_the_length_limits_is_not_taken() -> None:
    words = (Word("long", 0, 900), Word("story", 61_500, 62_000))
    transcript = Transcript(words, (Sentence("Long story", 0, 62_000),))
    refined = refine(Span(1_000, 61_000), Span(0, 62_000), transcript)
    assert refined.end_ms - refined.start_ms <= 60_000


@pytest.mark.parametrize("seed", range(10))
def test_the_candidates_are_a_short_numbered_list_in_order(seed: int) -> None:
    transcript = talk(seed, 120)
    clip = Span(30_000, 50_000)
    for letter, candidates in (
        ("s", start_candidates(36_000, clip, transcript, [])),
        ("e", end_candidates(44_000, clip, transcript, [])),
    ):
        assert 0 < len(candidates) <= MOST
        assert [c.id for c in candidates] == [f"{letter}{n}" for n in range(1, len(candidates) + 1)]
        assert [c.at_ms for c in candidates] == sorted(c.at_ms for c in candidates)
        assert all(clip.start_ms <= c.at_ms <= clip.end_ms for c in candidates)
        assert all(c.text for c in candidates)
