"""Signed URLs of what rows name, kept as long as they are the same: signing takes up to a millisecond, or a request,
and a page has a hundred."""

from videomoments_dagster.errors import StorageError
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.signatures import issued_at

_MOST_KEPT = 20_000  # of some 900 bytes


class SignedUrls:
    """Of one store, whose URLs are the same for half of `life_seconds`."""

    def __init__(self, store: ObjectStore, life_seconds: int) -> None:
        self._store, self._life_seconds = store, life_seconds
        self._since, self._kept = 0, dict[str, str]()

    def of(self, cloud_url: str) -> str:
        """A URL anyone can open for a while. Raises StorageError for an object of another store."""
        since = issued_at(self._life_seconds)
        if since != self._since or len(self._kept) >= _MOST_KEPT:
            self._since, self._kept = since, {}
        kept = self._kept
        if (url := kept.get(cloud_url)) is None:
            url = kept[cloud_url] = self._store.signed_url(self._store.name_of(cloud_url))
        return url

    def of_ours(self, cloud_url: str | None) -> str | None:
        """For lists: one row that belongs to another store must not hide the others."""
        if cloud_url is None:
            return None
        try:
            return self.of(cloud_url)
        except StorageError:
            return None
