"""The address guard: URLs refused before anything is asked, addresses refused where the connection is made."""

import http.server
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.tls import self_signed
from tests.web import serving, swallowing
from videomoments_dagster.address_guard import GuardedSession, connect, is_public, validate_url
from videomoments_dagster.errors import AddressRefused, SourceError, SourceUnavailable
from videomoments_dagster.media.fetch import fetch
from videomoments_dagster.settings import get_settings

Resolver = Callable[..., list[tuple[object, ...]]]


PASSES, URL, ADDRESS = "passes", "refused: URL", "refused: address"
"""What a case gets: nothing is in its way, no server is asked, or DNS is asked and nothing is connected to."""

# (what is tried, the URL, what its name resolves to, what it gets); docs/addresses.md shows the same table
CASES: list[tuple[str, str, tuple[str, ...], str]] = [
    ("a plain name", "https://example.com/talk.mp4", ("93.184.215.14",), PASSES),
    ("another spelling of the scheme", "HTTPS://EXAMPLE.COM:443/a%20b.mp4?x=1#t=3", ("93.184.215.14",), PASSES),
    ("a public IPv4 address", "http://93.184.215.14:80/a.mp4", ("93.184.215.14",), PASSES),
    ("a public IPv6 address", "https://[2606:4700:4700::1111]/a.mp4", ("2606:4700:4700::1111",), PASSES),
    ("an international name", "https://münchen.example/a.mp4", ("93.184.215.14",), PASSES),
    ("a dot at the end of a name", "https://example.com./a.mp4", ("93.184.215.14",), PASSES),
    ("an empty port", "https://example.com:/a.mp4", ("93.184.215.14",), PASSES),
    ("a fragment that looks like a host", "https://example.com/#@127.0.0.1/", ("93.184.215.14",), PASSES),
    ("a path that looks like a host", "https://example.com/@127.0.0.1/", ("93.184.215.14",), PASSES),
    ("no scheme", "talk.mp4", (), URL),
    ("no scheme, but a host", "//example.com/a.mp4", (), URL),
    ("no host", "https:///a.mp4", (), URL),
    ("a file", "file:///etc/passwd", (), URL),
    ("FTP", "ftp://example.com/a.mp4", (), URL),
    ("Gopher", "gopher://example.com:70/_x", (), URL),
    ("a data URL", "data:video/mp4;base64,AAAA", (), URL),
    ("a script", "javascript:alert(1)", (), URL),
    ("a user name", "https://user@example.com/a.mp4", (), URL),
    ("a user name and a password", "https://user:secret@example.com/a.mp4", (), URL),
    ("a host in the place of the user name", "https://example.com@127.0.0.1/a.mp4", (), URL),
    ("a backslash before the at sign", "http://example.com\\@127.0.0.1/a.mp4", (), URL),
    ("a line feed and a header", "http://example.com/\r\nHost: other", (), URL),
    ("a tab in the host", "http://exam\tple.com/a.mp4", (), URL),
    ("a space in the host", "http://exa mple.com/a.mp4", (), URL),
    ("a null byte in the host", "http://example.com\0.mp4/", (), URL),
    ("a soft hyphen in the host", "http://127.0.0\u00ad.1/a.mp4", (), URL),
    ("a percent sign in the host", "http://%31%32%37.0.0.1/a.mp4", (), URL),
    ("a host that is no address in brackets", "http://[not an address]/a.mp4", (), URL),
    ("a URL of 5,000 characters", "https://example.com/" + "a" * 5000, (), URL),
    ("a name of 300 characters", "http://" + "a." * 150 + "example/a.mp4", (), URL),
    ("two dots in a row", "http://example..com/a.mp4", (), URL),
    ("port 22", "https://example.com:22/a.mp4", (), URL),
    ("port 8080", "http://example.com:8080/a.mp4", (), URL),
    ("port 0", "http://example.com:0/a.mp4", (), URL),
    ("port 99999", "http://example.com:99999/a.mp4", (), URL),
    ("a port that is no number", "http://example.com:port/a.mp4", (), URL),
    ("localhost", "http://localhost/a.mp4", (), URL),
    ("localhost, a dot, capitals", "http://LOCALHOST./a.mp4", (), URL),
    ("a name under localhost", "http://a.localhost/a.mp4", (), URL),
    ("a name without a dot", "http://redis/a.mp4", (), URL),
    ("Google's metadata by its name", "http://metadata.google.internal/computeMetadata/v1/", (), URL),
    ("a name under .internal", "http://db.internal/a.mp4", (), URL),
    ("a name under .local", "http://printer.local/a.mp4", (), URL),
    ("a name under .home.arpa", "http://nas.home.arpa/a.mp4", (), URL),
    ("loopback", "http://127.0.0.1/a.mp4", (), URL),
    ("loopback, short", "http://127.1/a.mp4", (), URL),
    ("loopback, decimal", "http://2130706433/a.mp4", (), URL),
    ("loopback, hexadecimal", "http://0x7f.1/a.mp4", (), URL),
    ("loopback, hexadecimal as one number", "http://0x7f000001/a.mp4", (), URL),
    ("loopback, octal", "http://0177.0.0.1/a.mp4", (), URL),
    ("loopback, octal as one number", "http://017700000001/a.mp4", (), URL),
    ("loopback, a dot at its end", "http://127.0.0.1./a.mp4", (), URL),
    ("loopback, full-width digits", "http://\uff11\uff12\uff17.0.0.1/a.mp4", (), URL),
    ("loopback, ideographic dots", "http://127\u30020\u30020\u30021/a.mp4", (), URL),
    ("loopback, digits in circles", "http://\u2460\u2461\u2466.0.0.1/a.mp4", (), URL),
    ("a public address, octal", "http://0135.184.215.14/a.mp4", (), URL),
    ("this host", "http://0.0.0.0/a.mp4", (), URL),
    ("a private network", "http://10.0.0.1/a.mp4", (), URL),
    ("IPv6 loopback", "http://[::1]/a.mp4", (), URL),
    ("IPv6 loopback, written out", "http://[0:0:0:0:0:0:0:1]/a.mp4", (), URL),
    ("loopback, IPv4-mapped", "http://[::ffff:127.0.0.1]/a.mp4", (), URL),
    ("loopback, IPv4-compatible", "http://[::127.0.0.1]/a.mp4", (), URL),
    ("loopback, NAT64", "http://[64:ff9b::7f00:1]/a.mp4", (), URL),
    ("a zone", "http://[fe80::1%25eth0]/a.mp4", (), URL),
    ("a zone on a public address", "http://[2606:4700:4700::1111%25eth0]/a.mp4", (), URL),
    ("the metadata address of clouds", "http://169.254.169.254/latest/meta-data/", (), URL),
    ("Amazon's over IPv6", "http://[fd00:ec2::254]/latest/meta-data/", (), URL),
    ("Alibaba's", "http://100.100.100.200/latest/meta-data/", (), URL),
    ("Azure's", "http://168.63.129.16/machine", (), URL),
    ("a name of loopback", "http://video.example/a.mp4", ("127.0.0.1",), ADDRESS),
    ("a name with the address in it", "http://127.0.0.1.nip.example/a.mp4", ("127.0.0.1",), ADDRESS),
    ("a name of a private network", "http://video.example/a.mp4", ("192.168.1.1",), ADDRESS),
    ("a name of the metadata address", "http://video.example/a.mp4", ("169.254.169.254",), ADDRESS),
    ("a name of a mapped address", "http://video.example/a.mp4", ("::ffff:10.0.0.1",), ADDRESS),
    ("a public and a private address", "http://video.example/a.mp4", ("1.1.1.1", "127.0.0.1"), ADDRESS),
    ("a private address of the other family", "http://video.example/a.mp4", ("1.1.1.1", "fd00::1"), ADDRESS),
    ("a link-local address with its zone", "http://video.example/a.mp4", ("fe80::1%eth0",), ADDRESS),
]  # fmt: skip
# More that take a server to show: each is a test of its own
STAGED = {
    "DNS that answers differently the second time": "asked once; the address that was checked is used",
    "a redirect to a private address": "refused at that hop; nothing arrives there",
    "a redirect to file:, FTP, or a URL with a password": "refused at that hop",
    "more than five redirects": "given up",
    "a redirect from http to https and back": "followed, each hop checked anew",
    "a certificate for another name": "refused, not tried again",
    "proxies and netrc of the environment": "not used",
    "a server that is silent, or drips": "given up after a timeout",
    "a video that is larger than allowed": "refused by its headers, or where it gets too large",
    "a page that leads to a private address": "refused by the proxy; nothing arrives there",
    "a page that leads to another port": "refused by the proxy",
    "a program, a file, a connection past the proxy": "not allowed to the process that reads pages",
}


@pytest.mark.parametrize(("case", "url", "addresses", "gets"), CASES, ids=[case for case, *_ in CASES])
def test_every_trick_gets_what_the_table_says(
    monkeypatch: pytest.MonkeyPatch, case: str, url: str, addresses: tuple[str, ...], gets: str
) -> None:
    """The name server and the public internet are stood in for; what is connected to is written down."""
    asked: list[str] = []
    reached: list[str] = []

    def resolve(host: str, port: int, *rest: object, **options: object) -> object:
        asked.append(host)
        return _answers(*addresses)(host, port)

    def reach(self: socket.socket, address: tuple[str, int]) -> None:
        reached.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", reach)
    with GuardedSession(allow_private=False) as session, pytest.raises(SourceError) as caught:
        session.get(validate_url(url), timeout=1)
    if gets == PASSES:
        assert isinstance(caught.value, SourceUnavailable) and reached == list(addresses)
    else:
        assert isinstance(caught.value, AddressRefused) and reached == []
        assert bool(asked) == (gets == ADDRESS)
    assert "secret" not in caught.value.message and caught.value.hint
    if gets == ADDRESS:
        assert not any(address in caught.value.message for address in addresses if address not in url)


def test_the_table_of_the_documentation_is_this_one() -> None:
    page = (Path(__file__).parent.parent / "docs" / "addresses.md").read_text()
    listed = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    rows = [*((case, gets) for case, _, _, gets in CASES), *STAGED.items()]
    assert [row for row in listed if row[0] not in {"---", "What is tried"}] == rows
    assert len(rows) == len(dict(rows)) >= 40


def test_private_addresses_and_ports_pass_when_the_setting_says_so() -> None:
    assert validate_url("http://127.0.0.1:8080/a.mp4", allow_private=True)
    assert validate_url("http://example.com:8080/a.mp4", ports={80, 8080})
    with pytest.raises(AddressRefused, match="443"):
        validate_url("https://example.com/a.mp4", ports={80, 8080})
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
        ("168.63.129.16", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
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
        ("::1.1.1.1", False),
        ("::ffff:0:101:101", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a00:1::1", False),
        ("2606:4700::5efe:7f00:1", False),
        ("2606:4700::200:5efe:a00:1", False),
        ("2606:4700::200:5efe:101:101", True),
        ("2001:2::1", False),
        ("2001:20::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("100::1", False),
        ("fd00:ec2::254", False),
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
        with pytest.raises(SourceUnavailable, match="given up"):
            session.get(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=20)


def test_aborting_ends_a_request_that_is_not_connected_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the name server is slow, and where the first address swallows what is sent to it."""
    with serving() as web, swallowing() as hole, GuardedSession(allow_private=True) as session:
        port = int(web.url.rpartition(":")[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", at) for at in (hole, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        began = time.monotonic()
        threading.Timer(0.2, session.abort).start()
        with pytest.raises(SourceUnavailable, match="given up"):
            session.get(f"http://video.example:{port}/", timeout=20)
        assert 0.1 < time.monotonic() - began < 10

        def resolve(*_: object, **__: object) -> object:
            late.abort()
            return found[1:]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with GuardedSession(allow_private=True) as late, pytest.raises(SourceUnavailable, match="given up"):
            late.get(f"http://video.example:{port}/", timeout=20)
        assert web.hits == {}


def test_a_name_of_many_addresses_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def reach(self: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    addresses = [*(f"2606:4700::{number}" for number in range(1, 30)), "1.1.1.1"]
    monkeypatch.setattr(socket, "getaddrinfo", _answers(*addresses))
    with monkeypatch.context() as refusing, pytest.raises(SourceUnavailable):
        refusing.setattr(socket.socket, "connect", reach)
        connect("video.example", 80, allow_private=False, timeout_seconds=1)
    assert tried == ["2606:4700::1", "1.1.1.1", "2606:4700::2", "2606:4700::3"]
    with swallowing() as hole:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", hole)] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        began = time.monotonic()
        with pytest.raises(SourceUnavailable):
            connect("video.example", 80, allow_private=True, timeout_seconds=0.2)
        assert time.monotonic() - began < 0.7
        with socket.create_server(("127.0.0.1", 0)) as open_port:
            found[1:] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", open_port.getsockname())] * 3
            with connect("video.example", 80, allow_private=True, timeout_seconds=0.4) as connected:
                assert connected.gettimeout() == 0.4, "TLS has all of it, not what was left of connecting"
    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hangs.wait(10))
    with pytest.raises(SourceUnavailable, match="resolved"):
        connect("video.example", 80, allow_private=True, timeout_seconds=0.05)
    hangs.set()


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
