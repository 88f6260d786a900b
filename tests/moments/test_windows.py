"""Windows: everything shown, nothing too long, and every moment of allowed length whole in one where that can be."""

import random
from itertools import pairwise

import pytest

from videomoments_dagster.moments.transcript import Sentence
from videomoments_dagster.moments.windows import LONGEST_MS, Window, estimate_tokens, fitted, split


def _sentences(seed: int, count: int, longest_pause_ms: int = 800) -> list[Sentence]:
    chance, now_ms, sentences = random.Random(seed), 0, []
    for _ in range(count):
        length_ms = chance.randint(300, 20_000)
        sentences.append(Sentence("said", now_ms, now_ms + length_ms))
        now_ms += length_ms + chance.randint(0, longest_pause_ms)
    return sentences


def test_what_fits_is_one_window() -> None:
    sentences = _sentences(1, 200)
    assert split(sentences, [10] * 200, 2_000, 600_000) == (Window(0, 200),)


def test_nothing_said_needs_no_window() -> None:
    assert split([], [], 1_000, 600_000) == ()


@pytest.mark.parametrize("seed", range(30))
def test_windows_cover_everything_and_fit(seed: int) -> None:
    chance = random.Random(seed)
    sentences = _sentences(seed, chance.randint(2, 900), chance.choice((0, 800, 900_000)))
    room = chance.choice((40, 100, 1_000, 100_000))
    tokens = [chance.randint(1, 10) for _ in sentences]
    windows = split(sentences, tokens, room, chance.choice((5_000, 60_000, 600_000)))
    assert windows[0].first == 0
    assert windows[-1].last == len(sentences)
    for window in windows:
        assert sum(tokens[window.first : window.last]) <= room
        assert sentences[window.last - 1].end_ms - sentences[window.first].start_ms <= 1.25 * LONGEST_MS
    for one, two in pairwise(windows):
        assert one.first < two.first <= one.last < two.last


@pytest.mark.parametrize("seed", range(10))
def test_every_moment_of_allowed_length_lies_whole_in_a_window(seed: int) -> None:
    sentences = _sentences(seed, 600)
    longest_ms = random.Random(seed).choice((30_000, 120_000, 600_000))
    windows = split(sentences, [10] * 600, 1_500, longest_ms)
    assert len(windows) > 3
    for first in range(600):
        last = first
        while last < 600 and sentences[last].end_ms - sentences[first].start_ms <= longest_ms:
            last += 1
        assert last == first or any(w.first <= first and last <= w.last for w in windows)


def test_windows_share_half_at_most_when_moments_may_be_longer_than_that() -> None:
    sentences = [Sentence("said", k * 1_000, k * 1_000 + 900) for k in range(1_000)]
    windows = split(sentences, [10] * 1_000, 1_000, 600_000)
    assert [(w.first, w.last) for w in windows[:3]] == [(0, 100), (50, 150), (100, 200)]


def test_a_long_context_is_not_filled_beyond_forty_minutes() -> None:
    sentences = [Sentence("said", k * 10_000, k * 10_000 + 9_000) for k in range(1_000)]
    windows = split(sentences, [10] * 1_000, 10**6, 600_000)
    lengths_ms = [sentences[w.last - 1].end_ms - sentences[w.first].start_ms for w in windows]
    assert max(lengths_ms[:-1]) <= LONGEST_MS < max(lengths_ms[:-1]) + 10_000
    assert split(sentences[:270], [10] * 270, 10**6, 600_000) == (Window(0, 270),)


def test_a_silence_longer_than_a_moment_needs_no_overlap() -> None:
    sentences = [
        Sentence("said", k * 1_000 + 3_600_000 * (k > 99), k * 1_000 + 900 + 3_600_000 * (k > 99)) for k in range(200)
    ]
    assert split(sentences, [10] * 200, 2_000, 600_000) == (Window(0, 100), Window(100, 200))


def test_tokens_are_estimated_by_script() -> None:
    assert estimate_tokens("a plain line") == 4
    assert estimate_tokens("\u6642\u9593\u3068\u7a7a\u9593") == 5
    assert estimate_tokens("2026") == 4
    assert estimate_tokens("") == 0


@pytest.mark.parametrize("text", ["words and more words " * 500, "\u6642" * 3_000, "short"])
def test_a_text_too_long_loses_its_middle(text: str) -> None:
    shown = fitted(text, 100)
    assert estimate_tokens(shown) <= 100
    assert shown[:3] == text[:3]
    assert shown[-3:] == text[-3:]
    assert (shown == text) == (text == "short")
