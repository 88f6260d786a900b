"""The hosts themselves: what the tests across hosts build on."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.hosts.network import Host, Network
from tests.hosts.relay import relaying
from tests.web import serving
from videomoments_dagster.stack.redis import EmbeddedRedis


def _fetched(host: Host, url: str) -> str:
    with host.entered():
        try:
            return requests.get(url, timeout=1).text
        except requests.RequestException as error:
            return type(error).__name__


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page"
    path.write_text("hello")
    return path


def test_hosts_have_names_and_see_each_other_but_nobody_else(network: Network, page: Path) -> None:
    hub, a, b = network.hosts
    outside = socket.gethostname()
    with hub.entered(), serving(hub.address) as web:
        assert socket.gethostname() == "hub"
        url = web.serve_file("/page", page)
        assert (_fetched(a, url), _fetched(b, url)) == ("hello", "hello")
    assert socket.gethostname() == outside
    with serving() as web:
        assert _fetched(a, web.serve_file("/page", page)) == "ConnectionError"


def test_an_unplugged_host_hears_nothing_and_is_told_nothing_and_its_connections_go_on_when_plugged_in(
    network: Network, page: Path
) -> None:
    hub, a, b = network.hosts
    with hub.entered(), serving(hub.address) as web, socket.create_server((hub.address, 0)) as listening:
        url = web.serve_file("/page", page)
        with a.entered():
            near = socket.create_connection(listening.getsockname(), timeout=10)
        far, _ = listening.accept()
        with near, far:
            far.settimeout(10)
            a.unplug()
            assert (_fetched(a, url), _fetched(b, url)) == ("ConnectTimeout", "hello")
            near.sendall(b"one")
            far.sendall(b"two")
            a.plug()
            assert (far.recv(3), near.recv(3)) == (b"one", b"two")
        assert _fetched(a, url) == "hello"


def test_a_server_on_loopback_is_reached_through_the_relay(network: Network, tmp_path: Path) -> None:
    hub, a, _ = network.hosts
    server = EmbeddedRedis(tmp_path / "redis")
    with hub.entered():
        server.start()
        try:
            with relaying(hub.address, server.port):
                url = server.url.replace("127.0.0.1", hub.address)
                code = f"import redis, sys; sys.exit(redis.Redis.from_url({url!r}).ping() is not True)"
                assert a.start([sys.executable, "-c", code], {}, tmp_path / "log").wait(30) == 0
        finally:
            server.stop()


def test_killing_a_host_leaves_no_process_of_it_and_no_word_to_the_others(
    make_network: Callable[..., Network], tmp_path: Path
) -> None:
    hub, worker = make_network("hub", "worker").hosts
    program = "import os, socket, time; os.fork() or os.setsid(); "
    program += "kept = socket.create_connection({}); kept.send(b'x'); time.sleep(600)"
    with hub.entered(), socket.create_server((hub.address, 0)) as listening:
        worker.start([sys.executable, "-c", program.format(listening.getsockname())], {}, tmp_path / "log")
        with listening.accept()[0] as parent, listening.accept()[0] as child:
            assert (parent.recv(1), child.recv(1)) == (b"x", b"x")
            assert len(worker.namespaces.processes()) == 2
            worker.kill()
            assert worker.namespaces.processes() == []
            for heard in (parent, child):
                heard.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    heard.recv(1)
