"""One site a module: its tests share the workers they start. A module's SETTINGS are the site's."""

from collections.abc import Iterator

import pytest

from tests.workers.site import Site
from videomoments_dagster.stack.postgres import EmbeddedPostgres, create_database


@pytest.fixture(scope="module")
def site(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    url = postgres.database_url(directory.name)
    create_database(url, maintenance="postgres")
    site = Site(directory, url, **getattr(request.module, "SETTINGS", {}))
    yield site
    site.stop()
