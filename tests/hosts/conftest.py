"""Where this user may not make network namespaces, the tests here say so; see test_as_a_user.py."""

from collections.abc import Iterator

import pytest

from tests.hosts.network import Network


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A hub and two hosts for workers."""
    try:
        network = Network("hub", "worker-a", "worker-b")
    except PermissionError as error:
        pytest.skip(f"{error}: run as root, or allow user namespaces")
    yield network
    network.close()
