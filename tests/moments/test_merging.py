"""Claims of several windows: each moment once and whole, of allowed length, between words, none over another."""

import random
import time

import pytest

from videomoments_dagster.moments.answers import Claim
from videomoments_dagster.moments.merging import LONG, OVERLAP, SHORT, Edges, Merged, best, edges, merge
from videomoments_dagster.moments.moment import FindOptions
from videomoments_dagster.moments.transcript import Sentence, Word
from videomoments_dagster.moments.windows import Window

_COUNT = 120
_TEN_SECONDS = Edges(tuple(10_000 * k for k in range(_COUNT)), tuple(10_000 * k + 10_000 for k in range(_COUNT)))
_LIMITS = FindOptions(min_length_ms=30_000, max_length_ms=300_000)
_ONE, _TWO, _THREE = Window(0, 40), Window(20, 60), Window(40, 120)


def merged(*shown: tuple[Window, list[Claim]], options: FindOptions = _LIMITS) -> Merged:
    return merge(shown, _COUNT, _TEN_SECONDS, options)


def places(*shown: tuple[Window, list[Claim]], options: FindOptions = _LIMITS) -> list[tuple[int, int]]:
    return [(c.first, c.last) for c in merged(*shown, options=options).claims]


def test_a_moment_that_two_windows_show_whole_is_one() -> None:
    shown = ((_ONE, [Claim(22, 30, score=5)]), (_TWO, [Claim(23, 31, score=6)]))
    assert places(*shown) == [(23, 31)]


def test_the_whole_one_wins_over_its_part_whatever_the_scores() -> None:
    assert places((_ONE, [Claim(35, 40, score=10)]), (_TWO, [Claim(35, 50, score=2)])) == [(35, 50)]
    assert places((_ONE, [Claim(10, 24, score=2)]), (_TWO, [Claim(20, 24, score=10)])) == [(10, 24)]


def test_a_moment_cut_off_by_both_windows_is_joined() -> None:
    found = merged((_ONE, [Claim(15, 40, "Less of it", 9)]), (_TWO, [Claim(20, 45, "More of it", 3)]))
    assert [(c.first, c.last) for c in found.claims] == [(15, 45)]


def test_a_moment_that_goes_through_three_windows_is_joined() -> None:
    long = FindOptions(min_length_ms=30_000, max_length_ms=900_000)
    shown = ((_ONE, [Claim(15, 40)]), (_TWO, [Claim(20, 60)]), (_THREE, [Claim(40, 75)]))
    assert places(*shown, options=long) == [(15, 75)]


def test_two_that_touch_at_a_window_s_edge_are_not_joined() -> None:
    shown = ((_ONE, [Claim(10, 25), Claim(25, 40)]), (_TWO, [Claim(20, 25), Claim(25, 40), Claim(40, 50)]))
    assert places(*shown) == [(10, 25), (25, 40), (40, 50)]


def test_parts_too_long_to_be_one_moment_stay_two() -> None:
    shown = ((_ONE, [Claim(12, 40, score=8)]), (_TWO, [Claim(20, 48, score=4)]))
    assert places(*shown) == [(12, 40)]
    shown = ((_ONE, [Claim(12, 40, score=8)]), (Window(30, 70), [Claim(30, 58, score=4)]))
    assert places(*shown) == [(12, 40), (40, 58)]


def test_the_same_moment_three_hundred_times_is_one() -> None:
    assert places((_ONE, [Claim(5, 15, score=7)] * 300)) == [(5, 15)]


def test_the_lower_score_gives_way_at_a_sentence() -> None:
    found = merged((_ONE, [Claim(5, 15, score=7), Claim(12, 30, score=4)]))
    assert [(c.first, c.last) for c in found.claims] == [(5, 15), (15, 30)]
    assert found.trimmed == 1


def test_what_would_be_less_than_half_of_itself_is_left_out() -> None:
    found = merged((_ONE, [Claim(5, 15, score=7), Claim(8, 19, score=4)]))
    assert [(c.first, c.last) for c in found.claims] == [(5, 15)]


def test_one_inside_a_better_one_is_left_out_and_counted() -> None:
    found = merged((_ONE, [Claim(5, 25, score=7), Claim(10, 14, score=4)]))
    assert [(c.first, c.last) for c in found.claims] == [(5, 25)]
    assert found.left_out == {OVERLAP: 1}


def test_short_moments_are_extended_by_whole_sentences_that_are_free() -> None:
    found = merged((_ONE, [Claim(10, 12, score=9), Claim(12, 20, score=1)]))
    assert [(c.first, c.last) for c in found.claims] == [(9, 12), (12, 20)]
    assert found.extended == 1


def test_short_moments_without_room_or_far_too_short_are_left_out() -> None:
    found = merged((_ONE, [Claim(0, 2, score=9), Claim(2, 20, score=1), Claim(30, 31, score=9)]))
    assert [(c.first, c.last) for c in found.claims] == [(2, 20)]
    assert found.left_out == {SHORT: 2}


def test_long_moments_keep_the_first_sentences_that_fit() -> None:
    found = merged((_THREE, [Claim(50, 100)]))
    assert [(c.first, c.last) for c in found.claims] == [(50, 80)]
    assert found.trimmed == 1


def test_a_sentence_longer_than_a_moment_is_none() -> None:
    endless = Edges((0, 600_000), (500_000, 700_000))
    found = merge([(Window(0, 2), [Claim(0, 1)])], 2, endless, _LIMITS)
    assert found.claims == ()
    assert found.left_out == {LONG: 1}


def test_the_best_are_kept_in_order_of_time() -> None:
    claims = [Claim(0, 5, score=3), Claim(10, 15, score=9), Claim(20, 25), Claim(30, 35, score=8)]
    assert [c.first for c in best(claims, 2)] == [10, 30]
    assert [c.first for c in best(claims, 3)] == [10, 20, 30]


@pytest.mark.parametrize("seed", range(10))
def test_what_shares_half_with_a_better_one_is_that_one_wherever_it_lies(seed: int) -> None:
    """Sentences of all lengths, some of none; nothing is trimmed, so no repetition was left to be."""
    chance = random.Random(seed)
    lengths_ms = [chance.choice((0, 500, 3_000, 9_000)) for _ in range(_COUNT)]
    starts_ms = [sum(lengths_ms[:k]) + 400 * k * (seed % 2) for k in range(_COUNT)]
    at = Edges(tuple(starts_ms), tuple(s + n for s, n in zip(starts_ms, lengths_ms, strict=True)))
    true = [Claim(first, first + 20, "True", 9) for first in range(0, _COUNT, 20)]
    repeated = [
        again
        for claim in true
        for again in (
            Claim(max(0, claim.first + chance.randint(-4, 4)), min(_COUNT, claim.last + chance.randint(-4, 4)))
            for _ in range(100)
        )
        if 2 * at.length_ms(max(again.first, claim.first), min(again.last, claim.last))
        >= at.length_ms(min(again.first, claim.first), max(again.last, claim.last))
    ]
    assert len(repeated) > 300
    found = merge([(Window(0, _COUNT), [*repeated, *true])], _COUNT, at, FindOptions(1_000, 600_000))
    assert [(c.first, c.last) for c in found.claims] == [(c.first, c.last) for c in true]
    assert (found.left_out, found.trimmed, found.extended) == ({}, 0, 0)


def test_ever_so_many_claims_are_merged_in_a_moment() -> None:
    count = 20_000
    at = Edges(tuple(1_800 * k for k in range(count)), tuple(1_800 * k + 1_700 for k in range(count)))
    shown = [
        (Window(first, first + 1_000), [Claim(k, k + 1, "Said.") for k in range(first, first + 1_000)])
        for first in range(0, count, 1_000)
    ]
    began = time.process_time()
    assert len(merge(shown, count, at, FindOptions(1_000, 600_000)).claims) == count
    assert time.process_time() - began < 3  # 0.3 s here; 13 s when each is compared with all


@pytest.mark.parametrize(
    ("at_ms", "moved_ms"), [(500, 500), (1_000, 1_000), (1_100, 1_000), (1_300, 1_400), (1_700, 1_800), (2_500, 2_500)]
)
def test_an_edge_inside_a_word_moves_to_the_nearer_end_of_it(at_ms: int, moved_ms: int) -> None:
    words = [
        Word("one", 1_000, 1_400),
        Word("two", 1_400, 1_600),
        Word("over", 1_550, 1_800),
        Word("stuck", 2_000, 60_000),
    ]
    found = edges([Sentence("Said.", at_ms, 3_000)], words)
    assert found.starts_ms == (moved_ms,)


def test_sentences_stay_in_order_whatever_the_words() -> None:
    words = [Word("said", 100 * k, 100 * k + 350) for k in range(0, 90, 2)]
    sentences = [Sentence("Said.", 130 * k, 130 * k + 130) for k in range(60)]
    found = edges(sentences, words)
    times = [t for pair in zip(found.starts_ms, found.ends_ms, strict=True) for t in pair]
    assert times == sorted(times)
