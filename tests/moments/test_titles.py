"""Titles: short, distinct, from the talk's own words, with and without punctuation."""

import pytest

from tests.moments.talks import talk
from videomoments_dagster.moments.titles import MAX_TITLE_CHARACTERS, titles

_BREAD = "today we bake bread at home we mix the flour with warm water the bread rests and the bread is in the hot oven"
_STARS = "look at the night sky find a dark field in the night sky thousands of stars and the moon in the night sky"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("punctuation", [True, False])
def test_titles_are_distinct_not_empty_and_short(seed: int, punctuation: bool) -> None:
    sentences = [s.text for s in talk(seed, 600, punctuation=punctuation).sentences]
    parts = [sentences[k : k + 6] for k in range(0, len(sentences), 6)]
    given = titles(parts)
    assert len(given) == len(parts)
    assert len({t.casefold() for t in given}) == len(given)
    assert all(0 < len(t) <= MAX_TITLE_CHARACTERS for t in given)
    assert all(t[0] == t[0].upper() for t in given)


def test_titles_say_what_sets_a_moment_apart() -> None:
    bread, stars = titles([[_BREAD], [_STARS]])
    assert "bread" in bread.lower()
    assert "sky" in stars.lower()


def test_names_and_acronyms_keep_their_capitals() -> None:
    (title,) = titles([["The GPU cluster is new.", "We like the GPU cluster.", "Every GPU cluster is loud."]])
    assert title == "GPU cluster"


def test_moments_that_say_the_same_get_different_titles() -> None:
    assert len(set(titles([[_BREAD]] * 5))) == 5


def test_a_moment_of_function_words_is_called_by_how_it_begins() -> None:
    assert titles([["So, yeah, and then it was, you know, like that."]]) == [
        "So, yeah, and then it was, you know, like that"
    ]


def test_a_moment_of_one_endless_word_still_fits() -> None:
    (title,) = titles([["x" * 500]])
    assert len(title) <= MAX_TITLE_CHARACTERS
