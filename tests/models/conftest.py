"""A real OpenSSH server and pools of tunnels that are closed in the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.models.remote import echo, remote
from tests.models.sshd import Sshd, sshd_or_skip
from videomoments_dagster.models.tunnels import TunnelPool

StartSshd = Callable[..., Sshd]


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """Shared and healthy: take `own_sshd` to kill or freeze one, `start_sshd` for other options."""
    with sshd_or_skip() as server:
        yield server


@pytest.fixture
def start_sshd() -> Iterator[StartSshd]:
    """Starts a server as `running_sshd` does: with these lines of sshd_config, and with more host keys."""
    with ExitStack() as stack:
        yield lambda *options, **more: stack.enter_context(sshd_or_skip(*options, **more))


@pytest.fixture
def own_sshd(start_sshd: StartSshd) -> Sshd:
    return start_sshd()


@pytest.fixture
def pool() -> Iterator[TunnelPool]:
    """With a short patience: what does not answer within a second is down."""
    tunnels = TunnelPool(idle_seconds=60, timeout_seconds=1)
    yield tunnels
    tunnels.close()


@pytest.fixture(scope="module")
def echoing() -> Iterator[int]:
    with remote(echo) as port:
        yield port
