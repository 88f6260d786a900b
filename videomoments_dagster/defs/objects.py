"""Removing objects whose rows are gone. Rows go first, in one transaction; a kill in between leaves objects that the
check `rows_and_objects_agree` reports and the next materialization removes."""

from collections.abc import Iterable

from videomoments_dagster.defs.resources import PlatformResource


def delete_objects(platform: PlatformResource, cloud_urls: Iterable[str]) -> None:
    for cloud_url in cloud_urls:
        platform.store.delete(platform.store.name_of(cloud_url))
