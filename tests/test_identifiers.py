"""Partition keys, canonical URLs and moment identifiers."""

import pytest

from videomoments_dagster.errors import InvalidIdentifier
from videomoments_dagster.identifiers import (
    canonical_url,
    distinct_identifier,
    identifier_from_url,
    moment_identifier,
    slug,
    validate_identifier,
)


@pytest.mark.parametrize("identifier", ["a", "Talk_1-b", "0" * 100])
def test_good_identifiers_pass_unchanged(identifier: str) -> None:
    assert validate_identifier(identifier) == identifier


@pytest.mark.parametrize("identifier", ["", "a/b", "../x", "-a", "_a", "a b", "a...b", "ä", "a\n", "0" * 101, "a\0"])
def test_bad_identifiers_are_refused_by_name(identifier: str) -> None:
    with pytest.raises(InvalidIdentifier) as caught:
        validate_identifier(identifier)
    assert repr(identifier[:120]) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("HTTPS://Example.COM:443/a.mp4#t=3", "https://example.com/a.mp4"),
        ("http://example.com:80", "http://example.com/"),
        ("https://example.com/a.mp4?utm_source=x&id=7&fbclid=y", "https://example.com/a.mp4?id=7"),
        ("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
    ],
)
def test_urls_are_compared_in_one_form(url: str, same: str) -> None:
    assert canonical_url(url) == same
    assert canonical_url(same) == same


def test_paths_and_plain_queries_stay_as_they_are() -> None:
    for url in ("https://example.com/A/b.MP4?X=1&y=", "https://example.com/a?sig=a%2Fb%20c+d&bare&x=~"):
        assert canonical_url(url) == url


@pytest.mark.parametrize(
    ("url", "identifier"),
    [
        ("https://example.com/talks/My%20Talk%20(final).mp4?x=1", "My-Talk-final"),
        ("https://example.com/", "video"),
        ("https://example.com/.mp4", "mp4"),
        ("https://example.com/a/../..%2F..%2Fetc", "etc"),
        ("https://example.com/" + "x" * 300 + ".mp4", "x" * 80),
    ],
)
def test_a_url_gives_a_valid_identifier(url: str, identifier: str) -> None:
    assert identifier_from_url(url) == identifier
    assert validate_identifier(identifier) == identifier


def test_two_sources_of_one_name_get_distinct_identifiers() -> None:
    first, second = distinct_identifier("talk", "https://a/talk.mp4"), distinct_identifier("talk", "https://b/talk.mp4")
    assert first != second
    assert validate_identifier(distinct_identifier("x" * 100, "https://a"))


def test_a_slug_is_never_empty_and_always_valid() -> None:
    for text in ["", "---", "___", "日本", "a" * 200, "-_a_-"]:
        assert validate_identifier(slug(text))


def test_the_same_moment_gets_the_same_identifier_and_kinds_do_not_meet() -> None:
    assert moment_identifier("v", "generated", 0, 1000) == moment_identifier("v", "generated", 0, 1000)
    assert moment_identifier("v", "generated", 0, 1000) != moment_identifier("v", "refined:p", 0, 1000)
    assert len(moment_identifier("v", "manual", 1, 2)) == 16
