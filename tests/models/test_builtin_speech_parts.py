"""The pure parts of builtin_speech: where sound is, and what becomes of the words. No recognizer, no files."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.sample import RATE_HZ, TRUTH, talk
from videomoments_dagster.models.builtin.speech_activity import LONGEST_RUN_MS, levels, speech_runs
from videomoments_dagster.models.builtin.speech_text import transcript_of
from videomoments_dagster.moments.moment import Span
from videomoments_dagster.moments.transcript import Word


def _runs(samples: NDArray) -> list[Span]:
    return speech_runs(levels([np.clip(samples, -32768, 32767).astype(np.int16)]))


def _words(*spans: tuple[int, int]) -> list[Word]:
    return [Word(f"word{number}", start, end) for number, (start, end) in enumerate(spans)]


def _steady(start: int, count: int, step: int = 400, length: int = 380) -> list[tuple[int, int]]:
    return [(start + step * number, start + step * number + length) for number in range(count)]


@pytest.mark.parametrize("loudness", [1.0, 0.2, 0.05])
def test_every_sentence_is_one_run_however_loud_it_is(loudness: float) -> None:
    found = _runs(talk() * loudness)
    assert len(found) == len(TRUTH["sentences"])
    for run, sentence in zip(found, TRUTH["sentences"], strict=True):
        assert run.start_ms / 1000 <= sentence["start_time"] + 0.03
        assert run.end_ms / 1000 >= sentence["end_time"] - 0.06


def test_noise_under_the_voice_does_not_hide_it() -> None:
    noisy = talk() + np.random.default_rng(2).normal(0, 0.05 * talk().std(), len(talk()))
    covered = sum(run.end_ms - run.start_ms for run in _runs(noisy))
    assert covered > 900 * sum(s["end_time"] - s["start_time"] for s in TRUTH["sentences"])


def test_one_word_in_a_minute_of_silence_is_found() -> None:
    samples = np.random.default_rng(2).normal(0, 6, 60 * RATE_HZ)
    samples[30 * RATE_HZ : 30 * RATE_HZ + 8000] += talk()[10_000:18_000]
    (run,) = _runs(samples)
    assert 29_500 < run.start_ms < run.end_ms < 31_000


def test_sound_without_a_pause_is_cut_and_nothing_is_lost() -> None:
    loudness = np.repeat(np.tile([3000, 300], 350), RATE_HZ // 10)  # changes ten times a second
    found = _runs(np.random.default_rng(2).normal(0, 1, len(loudness)) * loudness)
    assert (found[0].start_ms, found[-1].end_ms) == (0, 70_000)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(found))
    assert max(run.end_ms - run.start_ms for run in found) <= LONGEST_RUN_MS


def test_blocks_give_the_same_levels_as_the_whole() -> None:
    samples = talk()[: 10 * RATE_HZ]
    whole = levels([samples])
    assert len(whole) == 1000
    assert np.array_equal(levels(np.split(samples, 5)), whole)


def test_words_thinly_spread_over_music_are_dropped_and_speech_beside_them_is_kept() -> None:
    speech, music = _steady(0, 30), _steady(20_000, 10, step=2000, length=300)
    said = transcript_of(_words(*speech, *music), [Span(0, 12_000), Span(20_000, 40_000)])
    assert [(word.start_ms, word.end_ms) for word in said.words] == speech


def test_a_word_that_lasts_for_seconds_is_noise() -> None:
    assert transcript_of(_words((60, 16_310)), [Span(0, 16_370)]).words == ()


def test_a_pause_ends_a_sentence() -> None:
    said = transcript_of(_words((0, 400), (400, 800), (1250, 1600), (1900, 2300)), [Span(0, 2300)])
    assert [(s.text, s.start_ms, s.end_ms) for s in said.sentences] == [
        ("Word0 word1.", 0, 800),
        ("Word2 word3.", 1250, 2300),
    ]
    assert said.text == "Word0 word1. Word2 word3."


def test_a_long_sentence_ends_at_a_shorter_pause() -> None:
    words = [*_steady(0, 20), *_steady(8_300, 20)]
    said = transcript_of(_words(*words), [Span(0, 16_300)])
    assert [sentence.start_ms for sentence in said.sentences] == [0, 8_300]


def test_without_any_pause_no_sentence_lasts_longer_than_twenty_seconds() -> None:
    words = _words(*_steady(0, 200, length=400))
    said = transcript_of(words, [Span(0, 80_000)])
    lengths = [sentence.end_ms - sentence.start_ms for sentence in said.sentences]
    assert max(lengths) <= 20_000
    assert min(lengths) >= 5_000
    assert sum(len(sentence.text.split()) for sentence in said.sentences) == 200


def test_no_words_make_no_sentences() -> None:
    assert transcript_of([], []).sentences == ()
