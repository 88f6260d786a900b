"""Where this user may not make network namespaces, the tests here say so; test_as_a_user.py runs them all the same."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.hosts.network import Network


@pytest.fixture(scope="module")
def make_network() -> Iterator[Callable[..., Network]]:
    """Networks of hosts with the given names, closed at the end."""
    with ExitStack() as stack:

        def make(*names: str) -> Network:
            try:
                network = Network(*names)
            except PermissionError:
                pytest.skip("only root makes networks: test_as_a_user.py runs this in a user namespace, where it may")
            stack.callback(network.close)
            return network

        yield make


@pytest.fixture(scope="module")
def network(make_network: Callable[..., Network]) -> Network:
    """A hub and two hosts for workers."""
    return make_network("hub", "worker-a", "worker-b")
