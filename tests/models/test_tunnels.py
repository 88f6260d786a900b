"""Tunnels over a real OpenSSH server: sharing, volume, idleness, forks, and every way of going down."""

import contextlib
import hashlib
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import psutil
import pytest

from tests.models.remote import (
    CHUNK,
    connect,
    digest_of,
    digest_received,
    echo,
    eventually,
    opened,
    opens,
    remote,
    say,
    send_much,
)
from tests.models.sshd import Sshd
from videomoments_dagster.errors import LocalPortTaken, ModelNotConfigured, ModelUnavailable, TunnelUnavailable
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.tunnels import Route, TunnelPool, tunnels
from videomoments_dagster.settings import Settings

VOLUME_BYTES = 200 * 10**6 // len(CHUNK) * len(CHUNK)


def tunnel_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("tunnel-") or "paramiko" in repr(each)]


# --- sharing


def test_requests_share_one_login(own_sshd: Sshd, pool: TunnelPool, echoing: int) -> None:
    for words in (b"one", b"two", b"three"):
        with pool.open(own_sshd.route(echoing)) as address:
            assert say(address, words) == words
    with remote(echo) as other, pool.open(own_sshd.route(other, asked_by="minimax")) as address:
        assert say(address) == b"hello"
    assert own_sshd.logins == 1


def test_32_requests_run_at_the_same_time_over_one_connection(own_sshd: Sshd, pool: TunnelPool) -> None:
    all_there = threading.Barrier(32)

    def answer_when_all_are_there(client: socket.socket) -> None:
        if words := client.recv(100):
            all_there.wait(10)
            client.sendall(words)

    with remote(answer_when_all_are_there) as port:

        def ask(number: int) -> bytes:
            with pool.open(own_sshd.route(port)) as address, connect(address) as client:
                client.sendall(str(number).encode())
                return client.recv(100)

        with ThreadPoolExecutor(32) as threads:
            assert list(threads.map(ask, range(32))) == [str(number).encode() for number in range(32)]
    assert own_sshd.logins == 1


def test_200_mb_go_up_whole(sshd: Sshd, pool: TunnelPool) -> None:
    with remote(digest_received) as port, pool.open(sshd.route(port)) as address, connect(address) as client:
        for _ in range(VOLUME_BYTES // len(CHUNK)):
            client.sendall(CHUNK)
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == digest_of(VOLUME_BYTES)


def test_200_mb_come_down_whole(sshd: Sshd, pool: TunnelPool) -> None:
    digest = hashlib.sha256()
    with remote(send_much(VOLUME_BYTES)) as port, pool.open(sshd.route(port)) as address, connect(address) as client:
        client.sendall(b"!")
        while data := client.recv(1 << 20):
            digest.update(data)
    assert digest.digest() == digest_of(VOLUME_BYTES)


def test_a_tunnel_used_in_the_last_second_is_not_probed_again(sshd: Sshd, pool: TunnelPool) -> None:
    connections: list[int] = []
    with remote(lambda client: connections.append(1)) as port:
        for _ in range(5):
            with pool.open(sshd.route(port)):
                pass
        assert eventually(lambda: connections)
    assert len(connections) == 1


# --- going down


def test_an_answer_cut_by_a_killed_server_is_a_reset_and_the_tunnel_comes_back_with_it(
    own_sshd: Sshd, pool: TunnelPool, echoing: int
) -> None:
    with pool.open(own_sshd.route(echoing)) as address, connect(address) as client:
        client.sendall(b"half of an answer")
        assert client.recv(100) == b"half of an answer"
        own_sshd.kill()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with (
        pytest.raises(TunnelUnavailable, match="can't be reached: Connection refused"),
        pool.open(own_sshd.route(echoing)),
    ):
        pass
    own_sshd.start()
    with pool.open(own_sshd.route(echoing)) as again:
        assert again == address
        assert say(again) == b"hello"


def test_the_next_connection_to_the_same_address_outlives_a_killed_session(
    own_sshd: Sshd, pool: TunnelPool, echoing: int
) -> None:
    with pool.open(own_sshd.route(echoing)) as address, connect(address) as client:
        client.sendall(b"x")
        assert client.recv(100) == b"x"
        own_sshd.kill_sessions()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert say(address) == b"hello"
    assert own_sshd.logins == 2


def test_drops_under_load_are_resets_and_never_short_answers(own_sshd: Sshd, pool: TunnelPool, echoing: int) -> None:
    """A write that met the dying connection used to end its thread with a traceback and leave the other end open."""
    dropped = threading.Event()
    words = os.urandom(100_000)

    def ask_on() -> int:
        whole = 0
        while not dropped.is_set():
            with contextlib.suppress(OSError), pool.open(own_sshd.route(echoing)) as address:
                assert say(address, words) == words
                whole += 1
        return whole

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask_on) for _ in range(8)]
        for _ in range(4):
            dropped.wait(0.2)
            own_sshd.kill_sessions()
        dropped.set()
        assert sum(each.result() for each in asking) > 8
    pool.close()
    assert eventually(lambda: not tunnel_threads())


def test_a_frozen_session_is_replaced_by_another(own_sshd: Sshd, echoing: int) -> None:
    pool = TunnelPool(timeout_seconds=0.4)
    with contextlib.closing(pool), pool.open(own_sshd.route(echoing)) as address:
        assert say(address) == b"hello"
        time.sleep(1.1)  # what was proved before is not believed any more
        for session in own_sshd.sessions():
            session.suspend()
        with pool.open(own_sshd.route(echoing)) as again:
            assert say(again) == b"hello"
    assert own_sshd.logins == 2


def test_a_frozen_server_is_noticed_and_used_again_when_it_thaws(own_sshd: Sshd, echoing: int) -> None:
    pool = TunnelPool(timeout_seconds=0.4)
    with contextlib.closing(pool):
        own_sshd.freeze()
        begun = time.monotonic()
        with pytest.raises(TunnelUnavailable), pool.open(own_sshd.route(echoing)):
            pass
        assert time.monotonic() - begun < 2
        own_sshd.thaw()
        assert eventually(lambda: opens(pool, own_sshd.route(echoing)))


def test_a_remote_that_never_answers_costs_its_caller_only(sshd: Sshd, pool: TunnelPool, echoing: int) -> None:
    released = threading.Event()
    with remote(lambda client: released.wait(10)) as hung:
        with pool.open(sshd.route(hung)) as address, connect(address) as client:
            client.settimeout(0.1)
            client.sendall(b"POST / HTTP/1.1\r\n\r\n")
            with pytest.raises(TimeoutError):
                client.recv(100)
            with pool.open(sshd.route(echoing)) as other:
                assert say(other) == b"hello"
        released.set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses instead of waiting")
def test_a_remote_that_does_not_accept_takes_no_other_request_down(own_sshd: Sshd, echoing: int) -> None:
    pool = TunnelPool(timeout_seconds=0.5)
    with contextlib.closing(pool), contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        client = connect(stack.enter_context(pool.open(own_sshd.route(echoing))))
        stack.enter_context(client)
        with pytest.raises(ModelUnavailable, match="waits in vain"), pool.open(own_sshd.route(full.getsockname()[1])):
            pass
        client.sendall(b"still here")
        assert client.recv(100) == b"still here"
    assert own_sshd.logins == 1


# --- idleness and the end


def test_an_idle_tunnel_is_closed_with_its_login_although_a_silent_connection_lingers(
    own_sshd: Sshd, echoing: int
) -> None:
    pool = TunnelPool(idle_seconds=0.2)
    with contextlib.closing(pool):
        with pool.open(own_sshd.route(echoing)) as address:
            lingering = connect(address)
            time.sleep(0.5)
            lingering.sendall(b"x")
            assert lingering.recv(1) == b"x"  # in use: not idle, however silent
        assert eventually(lambda: not own_sshd.sessions())
        with lingering, pytest.raises(ConnectionResetError):
            lingering.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(address)
        assert eventually(lambda: not tunnel_threads())
        with pool.open(own_sshd.route(echoing)) as address:
            assert say(address) == b"hello"


def test_a_closed_pool_leaves_no_thread_and_no_listener(own_sshd: Sshd, echoing: int) -> None:
    pool = TunnelPool()
    with pool.open(own_sshd.route(echoing)) as address, connect(address) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        begun = time.monotonic()
        pool.close()
        assert time.monotonic() - begun < 2
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert eventually(lambda: not tunnel_threads())
    with pytest.raises(ConnectionRefusedError):
        connect(address)
    assert eventually(lambda: not own_sshd.sessions())
    with pytest.raises(TunnelUnavailable, match="closed"), pool.open(own_sshd.route(echoing)):
        pass


def test_closing_does_not_wait_for_a_client_that_reads_nothing(sshd: Sshd, pool: TunnelPool) -> None:
    with remote(send_much(VOLUME_BYTES)) as port, pool.open(sshd.route(port)) as address, connect(address) as client:
        client.sendall(b"!")
        assert client.recv(1)
        time.sleep(0.3)  # until nothing fits any more
        begun = time.monotonic()
        pool.close()
        assert time.monotonic() - begun < 2.5
        assert eventually(lambda: not tunnel_threads())


def test_a_program_that_forgets_to_close_ends_at_once_and_in_silence(sshd: Sshd, echoing: int) -> None:
    program = f"""
import sys
from pathlib import PosixPath
from videomoments_dagster.models.ssh import Shared
from videomoments_dagster.models.tunnels import Route, tunnels
assert "paramiko" not in sys.modules
with tunnels().open({sshd.route(echoing)!r}) as address:
    print(address[0])
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "127.0.0.1\n", "")
    assert time.monotonic() - begun < 10


# --- local ports


def test_a_fixed_local_port_is_kept(sshd: Sshd, pool: TunnelPool, echoing: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pool.open(sshd.route(echoing, local_port=port)) as address:
        assert address == ("127.0.0.1", port)
        assert say(address) == b"hello"
        with (
            pytest.raises(LocalPortTaken, match=r"'minimax' wants local port .* 'parakeet' has it"),
            pool.open(sshd.route(echoing + 1, local_port=port, asked_by="minimax")),
        ):
            pass


def test_an_entry_that_was_changed_takes_its_local_port_over(sshd: Sshd, pool: TunnelPool, echoing: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with remote(lambda client: client.sendall(b"new")) as changed:
        with pool.open(sshd.route(echoing, local_port=port)) as address:
            kept = connect(address)
            with pytest.raises(TunnelUnavailable, match=r"'parakeet' .* before it was changed") as refused:
                opened(pool, sshd.route(changed, local_port=port))
            assert refused.value.retryable
        with kept, pool.open(sshd.route(changed, local_port=port)) as address:
            assert say(address, b"") == b"new"
            with pytest.raises(ConnectionResetError):
                kept.recv(1)


def test_closing_the_pool_while_a_connection_comes_in_ends_that_too(sshd: Sshd, echoing: int) -> None:
    """One whose thread had not begun yet used to end the closing half-way."""
    beginning = threading.Event()

    def hold_up(frame: FrameType, event: str, argument: object) -> None:
        thread = frame.f_locals.get("self") if (event, frame.f_code.co_name) == ("call", "start") else None
        if isinstance(thread, threading.Thread) and thread.name.startswith("tunnel-relay"):
            beginning.set()
            time.sleep(0.2)

    pool = TunnelPool()
    threading.setprofile(hold_up)
    try:
        with pool.open(sshd.route(echoing)) as address, connect(address) as client:
            assert beginning.wait(5)
            pool.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    finally:
        threading.setprofile(None)
    assert eventually(lambda: not tunnel_threads())


def test_a_local_port_that_somebody_holds_is_refused_with_both_names(
    sshd: Sshd, pool: TunnelPool, echoing: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalPortTaken) as refused, pool.open(sshd.route(echoing, local_port=port)):
            pass
    name = psutil.Process().name()
    assert f"'parakeet' wants local port {port}" in refused.value.message
    assert f"process {os.getpid()} ({name}) listens there" in refused.value.message


# --- forks


def test_a_forked_child_has_a_connection_of_its_own_and_leaves_its_parent_s_alone(
    own_sshd: Sshd, pool: TunnelPool, echoing: int
) -> None:
    def in_the_child() -> None:
        with pool.open(own_sshd.route(echoing)) as address:
            answers.put((address, say(address)))

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with pool.open(own_sshd.route(echoing)) as address, connect(address) as client:
        child = context.Process(target=in_the_child)
        child.start()
        theirs, said = answers.get()
        child.join(10)
        assert (child.exitcode, said) == (0, b"hello")
        assert theirs != address
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    assert own_sshd.logins == 2


def test_a_child_does_not_keep_its_parent_s_listener_open(sshd: Sshd, pool: TunnelPool, echoing: int) -> None:
    context = multiprocessing.get_context("fork")
    released = context.Event()
    with pool.open(sshd.route(echoing)) as address:
        child = context.Process(target=released.wait, args=[10])
        child.start()
        pool.close()
        with pytest.raises(ConnectionRefusedError):
            connect(address)
    released.set()
    child.join(10)
    assert child.exitcode == 0


# --- the process's pool, and where routes come from


def test_a_process_has_one_pool(home: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert len({id(each) for each in threads.map(lambda _: tunnels(), range(16))}) == 1


def test_what_a_model_leaves_open_comes_from_the_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"kind": "speech", "remote_host": "worker-7", "remote_port": 8006}
    entry = ModelEntry.parse("parakeet", fields)
    with pytest.raises(ModelNotConfigured, match="'parakeet' has no ssh_host"):
        Route.of(entry, Settings())  # pyright: ignore[reportCallIssue]
    monkeypatch.setenv("VIDEOMOMENTS_SSH_HOST", "gpu.example.org")
    monkeypatch.setenv("VIDEOMOMENTS_SSH_PORT", "2222")
    monkeypatch.setenv("VIDEOMOMENTS_SSH_USER", "models")
    monkeypatch.setenv("VIDEOMOMENTS_SSH_KNOWN_HOSTS", "/etc/ssh/ssh_known_hosts")
    route = Route.of(entry, Settings())  # pyright: ignore[reportCallIssue]
    known_hosts = Path("/etc/ssh/ssh_known_hosts")
    assert route == Route("gpu.example.org", 2222, "models", "", known_hosts, "worker-7", 8006, 0, "parakeet")
