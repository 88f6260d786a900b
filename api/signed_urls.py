"""Signed URLs of what rows name, kept as long as they are the same: signing takes up to a millisecond, or a request,
and a page has a hundred."""

from typing import NamedTuple

from videomoments_dagster.errors import StorageError
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.signatures import issued_at

_MOST_KEPT = 20_000  # of some 900 bytes, twice


class SignedUrls:
    """Of one store, whose URLs are the same for half of `life_seconds`."""

    def __init__(self, store: ObjectStore, life_seconds: int) -> None:
        self._store, self._life_seconds = store, life_seconds
        self._kept = _Kept(0, {}, {})

    def of(self, cloud_url: str) -> str:
        """A URL anyone can open for a while. Raises StorageError for an object of another store."""
        since, kept = issued_at(self._life_seconds), self._kept
        if since != kept.since:
            self._kept = kept = _Kept(since, {}, {})
        elif len(kept.newest) >= _MOST_KEPT:
            self._kept = kept = _Kept(since, {}, kept.newest)
        if found := kept.newest.get(cloud_url) or kept.before.get(cloud_url):
            return found
        url = kept.newest[cloud_url] = self._store.signed_url(self._store.name_of(cloud_url))
        return url

    def of_ours(self, cloud_url: str | None) -> str | None:
        """For lists: one row that belongs to another store must not hide the others."""
        if cloud_url is None:
            return None
        try:
            return self.of(cloud_url)
        except StorageError:
            return None


class _Kept(NamedTuple):
    """Those that are good since then. When the newest are many enough they become those before, and these go."""

    since: int
    newest: dict[str, str]
    before: dict[str, str]
