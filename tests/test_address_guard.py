"""The address guard: URLs refused before anything is asked, addresses refused where the connection is made."""

import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.tls import self_signed
from tests.web import serving
from videomoments_dagster.address_guard import GuardedSession, is_public, validate_url
from videomoments_dagster.errors import AddressRefused, SourceError
from videomoments_dagster.media.fetch import fetch
from videomoments_dagster.settings import get_settings

Resolver = Callable[..., list[tuple[object, ...]]]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/talk.mp4",
        "http://example.com",
        "HTTPS://EXAMPLE.COM:443/a%20b.mp4?x=1#t=3",
        "http://93.184.215.14:80/a.mp4",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/a.mp4",
        "  https://example.com/talk.mp4\n",
        "https://münchen.example/a.mp4",
    ],
)
def test_a_public_url_passes(url: str) -> None:
    assert validate_url(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "talk.mp4",
        "//example.com/a.mp4",
        "ftp://example.com/a.mp4",
        "file:///etc/passwd",
        "gopher://example.com/",
        "data:video/mp4;base64,AAAA",
        "javascript:alert(1)",
        "https://",
        "https:///a.mp4",
        "https://user:secret@example.com/a.mp4",
        "https://user@example.com/a.mp4",
        "https://example.com@127.0.0.1/a.mp4",
        "https://example.com:22/a.mp4",
        "http://example.com:8080/a.mp4",
        "http://example.com:99999/a.mp4",
        "http://example.com:port/a.mp4",
        "http://localhost/a.mp4",
        "http://LOCALHOST./a.mp4",
        "http://db.internal/a.mp4",
        "http://printer.local/a.mp4",
        "http://127.0.0.1/a.mp4",
        "http://127.1/a.mp4",
        "http://2130706433/a.mp4",
        "http://0x7f.1/a.mp4",
        "http://0177.0.0.1/a.mp4",
        "http://10.0.0.1/a.mp4",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/a.mp4",
        "http://[::ffff:127.0.0.1]/a.mp4",
        "http://[fe80::1%25eth0]/a.mp4",
        "http://[not an address]/a.mp4",
        "http://exa mple.com/a.mp4",
        "http://example.com\\@127.0.0.1/a.mp4",
        "http://example.com/\r\nHost: other",
        "https://example.com/" + "a" * 5000,
    ],
)
def test_a_url_that_leads_elsewhere_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        validate_url(url)
    assert "secret" not in caught.value.message
    assert caught.value.hint


def test_private_addresses_and_ports_pass_when_the_setting_says_so() -> None:
    assert validate_url("http://127.0.0.1:8080/a.mp4", allow_private=True)
    with pytest.raises(AddressRefused):
        validate_url("file:///etc/passwd", allow_private=True)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:1.1.1.1", True),
        ("64:ff9b::101:101", True),
        ("2002:101:101::1", True),
        ("0.0.0.0", False),  # noqa: S104  # nothing is bound
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.0.0.8", False),
        ("192.0.2.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2001:db8::1", False),
        ("fc00::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def _answers(*addresses: str) -> Resolver:
    """A name server that gives these addresses: the one thing of the outside world a test can't have."""

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(f, socket.SOCK_STREAM, 6, "", (a, port)) for f, a in zip(families, addresses, strict=True)]

    return resolve


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("1.1.1.1", "127.0.0.1"), ("::ffff:127.0.0.1",), ("169.254.169.254",)]
)
def test_a_name_of_a_private_address_is_refused_at_the_connection(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _answers(*addresses))
    with GuardedSession(allow_private=False) as session, pytest.raises(AddressRefused, match="not a public address"):
        session.get("http://video.example/a.mp4", timeout=2)


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS that answers differently the second time changes nothing: it is asked once."""
    asked: list[str] = []
    with serving() as web:
        port = int(web.url.rpartition(":")[2])
        web.serve_status("/a.mp4", 204)

        def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
            asked.append(host)
            return _answers("127.0.0.1" if len(asked) == 1 else "10.0.0.1")(host, port)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with GuardedSession(allow_private=True) as session:
            assert session.get(f"http://video.example:{port}/a.mp4", timeout=2).status_code == 204
    assert asked == ["video.example"]


def test_proxies_and_netrc_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving() as web, GuardedSession(allow_private=True) as session:
        web.serve_status("/a.mp4", 204)
        assert session.get(f"{web.url}/a.mp4", timeout=2).status_code == 204


def test_aborting_ends_a_request_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, GuardedSession(allow_private=True) as session:
        threading.Timer(0.2, session.abort).start()
        with pytest.raises(requests.exceptions.ConnectionError):
            session.get(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=20)


class _QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses the certificate is what the test wants."""


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A TLS server whose certificate is for `video.example`, signed by itself: its port and the certificate."""
    certificate, key = self_signed(tmp_path_factory.mktemp("tls"), "video.example")
    server = _QuietServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.server_port, certificate
    server.shutdown()
    server.server_close()
    thread.join()


def test_tls_is_verified_for_the_name_although_the_connection_goes_to_an_address(
    monkeypatch: pytest.MonkeyPatch, tls_server: tuple[int, Path]
) -> None:
    port, certificate = tls_server
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *_, **__: _answers("127.0.0.1")(host, port))
    with GuardedSession(allow_private=True) as session:
        session.verify = str(certificate)
        assert session.head(f"https://video.example:{port}/", timeout=5).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            session.head(f"https://other.example:{port}/", timeout=5)


def test_a_certificate_nobody_vouches_for_is_refused_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tls_server: tuple[int, Path], tmp_path: Path
) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return _answers("127.0.0.1")(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    settings = get_settings().model_copy(update={"allow_private_urls": True})
    with pytest.raises(SourceError, match="certificate") as caught:
        fetch(f"https://video.example:{tls_server[0]}/a.mp4", tmp_path, settings=settings)
    assert not caught.value.retryable
    assert asked == ["video.example"]
    assert not (tmp_path / "a.mp4").exists()
