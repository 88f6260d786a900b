"""The kept answers: what is written is what is read, whatever a model said, and nothing else is taken for it."""

import gzip

import pytest

from tests.moments.talks import talk
from videomoments_dagster.errors import InvalidInput
from videomoments_dagster.moments.archive import Archive, digest
from videomoments_dagster.moments.exchange import Exchange
from videomoments_dagster.moments.moment import FindOptions


def archive(answer: str) -> Archive:
    return Archive(
        "moments", "m", FindOptions(focus="烤面包"), "d", (Exchange("w", "q", answer, 1, 2, 0.5),), {"a": [1]}
    )


@pytest.mark.parametrize("answer", ["{}", "", "在家里烤面包", "a\ud800b", "\x00", "x" * 1_000_000])
def test_what_is_written_is_what_is_read_and_always_the_same_bytes(answer: str) -> None:
    kept = archive(answer)
    assert Archive.decode(kept.encode()) == kept
    assert kept.encode() == archive(answer).encode()


def test_what_is_no_archive_says_so() -> None:
    good = archive("{}").encode()
    broken = bytearray(good)
    broken[len(good) // 2] ^= 0xFF
    for data in (b"", b"x", good[:-9], bytes(broken), gzip.compress(b"[]"), gzip.compress(b'{"version": 99}')):
        with pytest.raises(InvalidInput):
            Archive.decode(data)


def test_transcripts_are_told_apart_by_words_and_times() -> None:
    one, other = talk(1, 60), talk(2, 60)
    assert digest(one) == digest(talk(1, 60)) != digest(other)
