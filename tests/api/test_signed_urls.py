"""Signed URLs are kept as long as they are good, and no longer; never more than a bound."""

from pathlib import Path

import pytest

from api import signed_urls
from api.signed_urls import SignedUrls
from videomoments_dagster.errors import StorageError
from videomoments_dagster.storage.directory import DirectoryStore


class Counting(DirectoryStore):
    signed = 0

    def signed_url(self, name: str, **more: object) -> str:
        self.signed += 1
        return super().signed_url(name, **more)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path, b"key", "http://testserver", ttl_seconds=3600)


def test_a_url_is_signed_once_in_half_its_life(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr("videomoments_dagster.storage.signatures.time.time", lambda: now)
    urls, clip = SignedUrls(store, 3600), store.cloud_url("clips/a/b.mp4")
    first = urls.of(clip)
    assert first == store.signed_url("clips/a/b.mp4") == urls.of(clip)
    assert store.signed == 2
    now += 1800
    assert urls.of(clip) != first
    assert urls.of(clip) == store.signed_url("clips/a/b.mp4")


def test_a_page_larger_than_what_is_kept_is_not_signed_anew_each_time(
    store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_urls, "_MOST_KEPT", 10)
    urls = SignedUrls(store, 3600)
    page = [store.cloud_url(f"clips/a/{number}.mp4") for number in range(15)]
    answers = [[urls.of(each) for each in page] for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert store.signed == 15
    for number in range(100):
        urls.of(store.cloud_url(f"clips/b/{number}.mp4"))
    assert len(urls._kept.newest) + len(urls._kept.before) <= 20


def test_another_stores_object_is_named_or_left_out(store: Counting) -> None:
    urls = SignedUrls(store, 3600)
    with pytest.raises(StorageError):
        urls.of("gs://other/clips/a.mp4")
    assert urls.of_ours("gs://other/clips/a.mp4") is None
    assert urls.of_ours(None) is None
