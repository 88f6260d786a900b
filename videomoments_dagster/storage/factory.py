"""Which object store the settings mean. The one place that chooses."""

from mimetypes import guess_type
from pathlib import Path

from videomoments_dagster.settings import Settings
from videomoments_dagster.storage import names
from videomoments_dagster.storage.base import ObjectStore
from videomoments_dagster.storage.directory import DirectoryStore


def open_store(settings: Settings) -> ObjectStore:
    """The bucket when one is configured, else the directory `objects` in the platform's home."""
    if settings.gcs_bucket_name:
        from videomoments_dagster.storage.gcs import GoogleCloudStore  # google's packages take a second to import

        return GoogleCloudStore.from_settings(settings)
    return DirectoryStore(
        settings.objects_directory, settings.signing_key, settings.public_url, settings.signed_url_seconds
    )


def publish(store: ObjectStore, path: Path) -> str:
    """Store a file that belongs to no video under its own name, once, and return an address to fetch it from."""
    name = names.shared(path.name)
    if store.stat(name) is None:
        store.put_file(name, path, guess_type(path.name)[0] or "application/octet-stream")
    return store.signed_url(name)
