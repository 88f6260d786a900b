"""ModelServer against a real HTTP server that misbehaves: what passes, what is asked again, and what is refused."""

import json
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.models import stubs
from tests.models.remote import remote
from tests.models.sshd import HOST, Sshd
from tests.models.stubs import ChatStub, Fault
from tests.tls import self_signed, tls_in_front_of
from videomoments_dagster.errors import (
    HostKeyRefused,
    ModelAnswerInvalid,
    ModelNotConfigured,
    ModelRefused,
    ModelUnavailable,
    TunnelUnavailable,
)
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.retries import Retries, asked_pause_seconds
from videomoments_dagster.models.server import ModelServer, RequestRefused
from videomoments_dagster.models.tunnels import TunnelPool
from videomoments_dagster.settings import get_settings

PATH = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "Who?"}]}


@pytest.fixture
def stub() -> Iterator[ChatStub]:
    with ChatStub(lambda request: "Me.") as server:
        yield server


def _ask(server: ModelServer) -> str:
    return server.post(PATH, json=QUESTION)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "fault",
    [
        *(pytest.param(stubs.refuses(status, "busy"), id=str(status)) for status in (408, 409, 425, 429, 500, 503)),
        pytest.param(stubs.refuses(502, None), id="502 without a word"),
        pytest.param(stubs.cut_half_way(), id="cut half-way"),
        pytest.param(stubs.hangs_up(), id="hangs up"),
        pytest.param(stubs.hangs(), id="hangs"),
        pytest.param(stubs.slow(0.6), id="slower than it may be"),
        pytest.param(stubs.says_body(b"<html>Loading</html>", "text/html"), id="a page"),
        pytest.param(stubs.says_body(b'{"choices": [{"mess'), id="half of a JSON"),
        pytest.param(stubs.says_body(b""), id="nothing"),
    ],
)
def test_what_may_pass_is_asked_again(stub: ChatStub, fault: Fault) -> None:
    stub.script(fault)
    assert _ask(stub.server(timeout_seconds=0.3)) == "Me."
    assert len(stub.requests) == 2


def test_a_slow_answer_is_awaited(stub: ChatStub) -> None:
    stub.script(stubs.slow(0.3))
    assert _ask(stub.server(timeout_seconds=5)) == "Me."
    assert len(stub.requests) == 1


def test_three_different_faults_in_a_row_are_survived(stub: ChatStub) -> None:
    stub.script(stubs.refuses(500, "oops"), stubs.cut_half_way(), stubs.says_body(b"?"))
    assert _ask(stub.server()) == "Me."


def test_the_fourth_fault_ends_it_and_the_error_says_which_model_where_and_what(stub: ChatStub) -> None:
    stub.script(*[stubs.hangs_up()] * 3, stubs.refuses(503, "Model is loading"), stubs.well())
    with pytest.raises(ModelUnavailable) as error:
        _ask(stub.server(key="minimax"))
    assert error.value.message == f"minimax at 127.0.0.1:{stub.port} answers 503: Model is loading (4 attempts)."
    assert len(stub.requests) == 4


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    entry = ModelEntry.parse("gone", {"kind": "chat", "base_url": f"http://127.0.0.1:{port}"})
    with pytest.raises(ModelUnavailable) as error:
        _ask(ModelServer(entry, get_settings(), retries=Retries(base_seconds=0.01)))
    assert error.value.message == f"gone at 127.0.0.1:{port} refuses the connection (4 attempts)."


def test_a_hung_server_is_asked_twice_only(stub: ChatStub) -> None:
    """Each time costs the whole timeout, ten minutes by default."""
    stub.script(*[stubs.hangs()] * 3)
    with pytest.raises(ModelUnavailable, match=r"was silent for 0.2 s \(2 attempts\)"):
        _ask(stub.server(timeout_seconds=0.2))
    assert len(stub.requests) == 2


def test_an_answer_that_drips_is_ended(stub: ChatStub) -> None:
    stub.script(*[stubs.drips(0.02)] * 2)
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match=r"did not finish its answer in 0\.3 s"):
        _ask(stub.server(timeout_seconds=0.1))
    assert time.monotonic() - began < 3


@contextmanager
def _proxy_to(port: int) -> Iterator[int]:
    """A proxy that connects to 127.0.0.1:`port`, whatever it is asked for."""

    def serve(client: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += client.recv(1)
        with socket.create_connection((HOST, port)) as beyond:
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            while ready := select.select([client, beyond], [], [])[0]:
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    (beyond if source is client else client).sendall(data)

    with remote(serve) as proxy:
        yield proxy


def test_an_answer_that_drips_through_a_proxy_is_ended_too(stub: ChatStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", stub.url)
    stub.script(*[stubs.drips(0.02)] * 2)
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match=r"gpu.example.org:8000 did not finish its answer in 0\.3 s"):
        _ask(stub.server(base_url="http://gpu.example.org:8000", timeout_seconds=0.1))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_so_is_one_in_tls_that_a_proxy_passes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    (tmp_path / "proxy").mkdir()
    certificate, key = self_signed(tmp_path, "gpu.example.org")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with (
        ChatStub(lambda request: "Me.", tls=context) as stub,
        _proxy_to(stub.port) as plain,
        tls_in_front_of(plain, tmp_path / "proxy") as front,
    ):
        certificate.write_text(certificate.read_text() + front.authority.read_text())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        port = plain if scheme == "http" else front.port
        monkeypatch.setenv("https_proxy", f"{scheme}://localhost:{port}")
        server = stub.server(base_url="https://gpu.example.org", timeout_seconds=0.2)
        assert _ask(server) == "Me."
        stub.script(*[stubs.drips(0.02)] * 2)
        began = time.monotonic()
        with pytest.raises(ModelUnavailable, match=r"did not finish its answer in 0\.6 s"):
            _ask(server)
        assert time.monotonic() - began < 2.5


def test_the_server_may_say_how_long_to_wait(stub: ChatStub) -> None:
    stub.script(stubs.refuses(429, "slow down", Retry_After="0.3"))
    began = time.monotonic()
    assert _ask(stub.server()) == "Me."
    assert 0.3 <= time.monotonic() - began < 2.0


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    now = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)
    assert asked_pause_seconds("20") == 20
    assert asked_pause_seconds("Sat, 21 Nov 2026 08:00:07 GMT", now) == 7
    assert asked_pause_seconds("Sat, 21 Nov 2026 07:00:00 GMT", now) == 0
    assert [asked_pause_seconds(text) for text in (None, "", "soon", "-5", "1.2.3")] == [None] * 5


def test_pauses_double_and_none_is_longer_than_a_minute() -> None:
    retries = Retries()
    for attempt, middle in ((1, 1.0), (2, 2.0), (3, 4.0)):
        pauses = {retries.pause_seconds(attempt) for _ in range(50)}
        assert len(pauses) > 1
        assert 0.75 * middle <= min(pauses) <= max(pauses) <= 1.25 * middle
    assert retries.pause_seconds(1, 30) == 30
    assert retries.pause_seconds(1, 86_400) == 60


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "The model `x` does not exist", "param": "model"}}, "The model `x` does not exist"),
        ({"error": {"message": "Unknown argument", "param": "top_k"}}, "Unknown argument (top_k)"),
        ({"error": "model 'x' not found, try pulling it first"}, "model 'x' not found, try pulling it first"),
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"detail": [{"loc": ["body", "file"], "msg": "Field required", "input": "huge"}]},
            "body.file: Field required",
        ),
        ({"object": "error", "message": "too long", "code": 400}, "too long"),
        (None, "Bad Request"),
    ],
)
def test_a_refusal_is_final_and_in_the_servers_own_words(stub: ChatStub, body: Any, said: str) -> None:
    stub.script(stubs.refuses(400, body))
    with pytest.raises(RequestRefused) as error:
        _ask(stub.server())
    assert error.value.message == f"stub at 127.0.0.1:{stub.port} answers 400: {said}"
    assert len(stub.requests) == 1


def test_no_signed_url_media_or_key_comes_back_in_a_message(stub: ChatStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_API_KEY", "sk-canary")
    echo = "No https://bucket.example/clip.mp4?sig=canary&x=1 or data:video/mp4;base64,canary for sk-canary" + "!" * 900
    stub.script(stubs.refuses(401, echo), stubs.refuses(503, echo), stubs.says_body(f'"{echo}'.encode()))
    server = stub.server(api_key_variable="STUB_API_KEY")
    with pytest.raises(RequestRefused) as refused:
        _ask(server)
    stub.script(*[stubs.refuses(500, echo)] * 3)
    with pytest.raises(ModelUnavailable) as unavailable:
        _ask(server)
    for message in (refused.value.message, refused.value.explanation, unavailable.value.message):
        assert "canary" not in message
        assert "https://bucket.example/clip.mp4?***" in message
    assert len(refused.value.message) < 400


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "url: /b/clip.mp4?X-Goog-Credential=canary%2F1&X-Goog-Signature=canary (Caused",
            "url: /b/clip.mp4?*** (Caused",
        ),
        ("no host bucket.example/b/clip.mp4?x-goog-signature=canary", "no host bucket.example/b/clip.mp4?***"),
        ("HTTPS://bucket.example/clip.mp4?canary", "HTTPS://bucket.example/clip.mp4?***"),
        (r"bad https:\/\/me:canary@bucket.example\/clip.mp4?sig=canary", r"bad https:\/\/bucket.example\/clip.mp4?***"),
        ("clip.mp4%3FX-Goog-Signature%3Dcanary not found", "clip.mp4?*** not found"),
        ("expired: Expires=9&X-Goog-Signature=canary&x=1", "expired: Expires=9&X-Goog-Signature=***&x=1"),
        ("CREDENTIAL=canary", "CREDENTIAL=***"),
        ("DATA:video/mp4;base64,canary", "DATA:video/mp4,***"),
        ("Who? Me. Is a=b? Yes: 1 + 1 = 2", "Who? Me. Is a=b? Yes: 1 + 1 = 2"),
    ],
)
def test_signed_addresses_are_redacted_in_any_form(stub: ChatStub, said: str, shown: str) -> None:
    stub.script(stubs.refuses(400, said))
    with pytest.raises(RequestRefused) as refused:
        _ask(stub.server())
    assert refused.value.explanation == shown


def test_a_redirect_is_not_followed(stub: ChatStub) -> None:
    with ChatStub(lambda request: "Mine.") as other:
        stub.script(stubs.redirects(f"http://localhost:{other.port}{PATH}?token=canary"))
        with pytest.raises(ModelRefused, match="redirects to localhost") as error:
            _ask(stub.server())
        assert "canary" not in error.value.message
        assert other.requests == []


def test_an_answer_without_end_is_given_up(stub: ChatStub) -> None:
    stub.script(stubs.huge(80 * 1024**2))
    with pytest.raises(ModelAnswerInvalid, match="more than 67108864 bytes"):
        _ask(stub.server())
    assert len(stub.requests) == 1


def test_a_server_that_never_answers_in_json_is_unavailable(stub: ChatStub) -> None:
    """A page to log in, or of a proxy: the model is down, and its fallback is asked."""
    stub.script(*[stubs.says_body(b"Sure! Here you go.")] * 4)
    with pytest.raises(ModelUnavailable, match=r"does not answer in JSON, but 'Sure! Here you go.' \(4 attempts\)"):
        _ask(stub.server())


@pytest.mark.parametrize("error", [{"message": "CUDA out of memory", "code": 500}, "CUDA out of memory"])
def test_an_error_in_place_of_an_answer_is_asked_again_and_shown(stub: ChatStub, error: Any) -> None:
    fault = stubs.says_body(json.dumps({"error": error}).encode())
    stub.script(fault)
    assert _ask(stub.server()) == "Me."
    stub.script(*[fault] * 4)
    with pytest.raises(ModelUnavailable, match=r"answers 200 with an error: CUDA out of memory.* \(4 attempts\)\."):
        _ask(stub.server())


def test_a_field_for_errors_that_is_empty_is_no_error(stub: ChatStub) -> None:
    stub.script(stubs.says_body(b'{"error": null, "choices": [{"message": {"content": "Me."}}]}'))
    assert _ask(stub.server()) == "Me."


@pytest.mark.parametrize(
    ("environment", "kind", "said"),
    [
        ({}, ModelUnavailable, r"gone at gpu\.invalid:443 can't be found: nobody knows that host name"),
        (
            {"https_proxy": "http://proxy.invalid:3128"},
            ModelUnavailable,
            r"gone at gpu\.invalid:443 can't be reached: its proxy can't be found: nobody knows that host name",
        ),
        ({"https_proxy": "http://127.0.0.1:9"}, ModelUnavailable, "can't be reached: its proxy refuses the connection"),
        ({"https_proxy": "http://:x"}, ModelNotConfigured, r"The proxy for gone at gpu\.invalid:443 has no address"),
        ({"https_proxy": "ftp://proxy.invalid"}, ModelNotConfigured, "The proxy for gone"),
        ({"REQUESTS_CA_BUNDLE": "/missing.pem"}, ModelNotConfigured, "REQUESTS_CA_BUNDLE .* names no file"),
    ],
)
def test_what_is_wrong_on_the_way_to_a_server_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], kind: type[Exception], said: str
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    entry = ModelEntry.parse("gone", {"kind": "chat", "base_url": "https://gpu.invalid"})
    with pytest.raises(kind, match=said):
        _ask(ModelServer(entry, get_settings(), retries=Retries(attempts=2, base_seconds=0.01)))


def test_an_entry_that_leads_nowhere_is_not_configured() -> None:
    with pytest.raises(ModelNotConfigured, match="where the model parakeet is"):
        ModelServer(ModelEntry.parse("parakeet", {"kind": "speech"}), get_settings())


def test_the_api_key_is_sent_and_a_missing_one_is_named(stub: ChatStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUB_API_KEY", raising=False)
    with pytest.raises(ModelNotConfigured, match="STUB_API_KEY is not set"):
        stub.server(api_key_variable="STUB_API_KEY")
    monkeypatch.setenv("STUB_API_KEY", "sk-1\n")
    _ask(stub.server(api_key_variable="STUB_API_KEY"))
    assert stub.requests[0].headers["Authorization"] == "Bearer sk-1"


def test_neither_a_proxy_nor_a_netrc_gets_between(
    stub: ChatStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert _ask(stub.server()) == "Me."
    assert "Authorization" not in stub.requests[0].headers


def test_a_base_url_may_end_in_v1(stub: ChatStub) -> None:
    assert _ask(stub.server(base_url=f"{stub.url}/v1")) == "Me."
    assert stub.requests[0].path == PATH


def test_a_connection_is_used_again_and_one_that_was_closed_is_replaced(stub: ChatStub) -> None:
    server = stub.server()
    for _ in range(5):
        _ask(server)
    assert stub.connections == 1
    stub.script(stubs.hangs_up())
    _ask(server)
    assert stub.connections == 2


def test_threads_share_a_server(stub: ChatStub) -> None:
    stub.answer = lambda request: request["messages"][0]["content"]
    server = stub.server()

    def ask(number: int) -> str:
        question = {"messages": [{"role": "user", "content": f"number {number}"}]}
        return server.post(PATH, json=question)["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(64))) == [f"number {number}" for number in range(64)]
    assert stub.connections <= 16


class _Cancelled(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(stubs.hangs(), id="while the server is silent"),
        pytest.param(stubs.refuses(503, "busy", Retry_After="30"), id="while it waits to ask again"),
    ],
)
def test_a_cancelled_run_does_not_wait_for_the_server(stub: ChatStub, fault: Fault) -> None:
    assert threading.current_thread() is threading.main_thread()
    stub.script(fault)

    def cancel(number: int, frame: object) -> None:
        raise _Cancelled

    before = signal.signal(signal.SIGALRM, cancel)
    began = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(_Cancelled):
            _ask(stub.server(timeout_seconds=30))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 2


def test_a_certificate_must_be_one_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with ChatStub(lambda request: "Me.", tls=context) as stub:
        with pytest.raises(ModelRefused, match=f"TLS certificate of localhost:{stub.port}"):
            _ask(stub.server())
        assert stub.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert _ask(stub.server()) == "Me."


def test_a_direct_server_loads_no_ssh_library(stub: ChatStub) -> None:
    code = f"""
import sys
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.server import ModelServer
from videomoments_dagster.settings import Settings
ModelServer(ModelEntry(key="stub", kind="chat", base_url="{stub.url}"), Settings()).get("/v1/models")
print([name for name in ("paramiko", "numpy", "cryptography") if name in sys.modules])
"""
    report = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(report.stdout) == []


def _behind(sshd: Sshd, pool: TunnelPool, remote_port: int, **fields: Any) -> ModelServer:
    """The server of an entry that leads through `sshd`."""
    where = {"ssh_host": HOST, "ssh_port": sshd.port, "ssh_user": sshd.user, "ssh_key_file": str(sshd.key_file)}
    entry = ModelEntry.parse(
        "minimax", {"kind": "chat", "remote_host": HOST, "remote_port": remote_port} | where | fields
    )
    settings = get_settings().model_copy(update={"ssh_known_hosts": sshd.known_hosts})
    return ModelServer(entry, settings, pool, retries=Retries(base_seconds=0.01))


def test_a_server_behind_ssh_is_asked_through_one_kept_connection(
    sshd: Sshd, pool: TunnelPool, stub: ChatStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = _behind(sshd, pool, stub.port)
    logins = sshd.logins
    for _ in range(5):
        assert _ask(server) == "Me."
    assert sshd.logins == logins + 1
    assert len(stub.requests) == 5


def test_a_tunnel_that_breaks_during_a_request_costs_one_attempt(
    own_sshd: Sshd, pool: TunnelPool, stub: ChatStub
) -> None:
    def breaks(reply: stubs.Reply) -> None:
        own_sshd.kill_sessions()
        reply.closing.wait()

    stub.script(breaks)
    assert _ask(_behind(own_sshd, pool, stub.port)) == "Me."
    assert len(stub.requests) == 2


def test_a_dead_model_and_a_dead_ssh_host_are_told_apart(own_sshd: Sshd, pool: TunnelPool, stub: ChatStub) -> None:
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))
        with pytest.raises(ModelUnavailable, match=r"^minimax: .* can't connect to .* \(4 attempts\)"):
            _ask(_behind(own_sshd, pool, nobody.getsockname()[1]))
    own_sshd.kill()
    with pytest.raises(TunnelUnavailable, match=r"^minimax: SSH host .* can't be reached.* \(4 attempts\)"):
        _ask(_behind(own_sshd, pool, stub.port))


def test_what_the_ssh_host_refuses_is_not_asked_again(own_sshd: Sshd, pool: TunnelPool, stub: ChatStub) -> None:
    own_sshd.known_hosts.write_text("")
    with pytest.raises(HostKeyRefused):
        _ask(_behind(own_sshd, pool, stub.port))
    assert len(re.findall("Connection from .* port", own_sshd.log)) - 1 == 1  # the first asks whether sshd is up
    assert stub.requests == []
