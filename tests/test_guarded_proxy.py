"""The filtering proxy: what passes is unchanged, what the address guard refuses never leaves, and all ends with it."""

import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests

from tests.tls import tls_in_front_of
from tests.web import Web, serving
from videomoments_dagster.errors import AddressRefused, SourceNotFound, SourceTooLarge
from videomoments_dagster.guarded_proxy import MOST_CONNECTIONS, GuardedProxy

CONTENT = bytes(range(256)) * 4096  # 1 MB


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def _proxy(*, allow_private: bool = True, max_bytes: int = 10**8, idle_seconds: float = 5.0) -> GuardedProxy:
    return GuardedProxy(allow_private=allow_private, max_bytes=max_bytes, idle_seconds=idle_seconds)


def _through(proxy: GuardedProxy) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"http": proxy.url, "https": proxy.url}
    return session


def _says(proxy: GuardedProxy, head: str) -> bytes:
    """The first words of the proxy's answer to what no library would send."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        connection.sendall(head.encode())
        return connection.recv(4096)


def _authorized(proxy: GuardedProxy) -> str:
    prepared = requests.Request("GET", proxy.url).prepare()
    return f"Proxy-Authorization: {prepared.headers['Authorization']}\r\n\r\n"


def test_a_plain_request_and_its_answer_pass_unchanged(web: Web) -> None:
    asked: list[tuple[str, dict[str, str], bytes]] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        asked.append((request.path, dict(request.headers), body))
        request.send_response(206, "Partly")
        for name, value in (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", str(len(CONTENT)))):
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(CONTENT)

    web.answers["/a b%20.mp4"] = web.answers["/a%20b%20.mp4"] = answer
    with _proxy() as proxy, _through(proxy) as session:
        got = session.get(f"{web.url}/a%20b%20.mp4?x=1&y=%2F", headers={"Range": "bytes=5-", "User-Agent": "mine"})
        assert (got.status_code, got.reason, got.content) == (206, "Partly", CONTENT)
        assert session.cookies.get_dict() == {"a": "1", "b": "2"}
        assert proxy.carried_bytes == len(CONTENT)
        assert proxy.refusals == []
    [(path, headers, _)] = asked
    assert path == "/a%20b%20.mp4?x=1&y=%2F"
    assert (headers["Range"], headers["User-Agent"]) == ("bytes=5-", "mine")
    assert headers["Host"] == web.url.removeprefix("http://")
    assert not [name for name in headers if name.lower().startswith("proxy")]


def test_an_answer_that_breaks_off_does_not_look_whole_and_a_redirect_is_not_followed(web: Web) -> None:
    def chunked(last: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.protocol_version = "HTTP/1.1"
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"5\r\nwhole\r\n" + last)
            request.close_connection = True

        return answer

    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", "http://169.254.169.254/")
        request.end_headers()

    web.answers |= {"/whole": chunked(b"0\r\n\r\n"), "/broken": chunked(b""), "/away": redirect}
    with _proxy() as proxy, _through(proxy) as session:
        assert session.get(f"{web.url}/whole").content == b"whole"
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            session.get(f"{web.url}/broken")
        assert session.get(f"{web.url}/away", allow_redirects=False).headers["Location"] == "http://169.254.169.254/"
        assert session.head(f"{web.url}/whole").status_code == 501  # the test's server knows GET only


def test_nobody_without_the_password_uses_it(web: Web) -> None:
    target = web.url.removeprefix("http://")
    with _proxy() as proxy:
        for head in (f"GET {web.url}/a HTTP/1.1\r\n", f"CONNECT {target} HTTP/1.1\r\n"):
            for authorization in ("\r\n", "Proxy-Authorization: Basic dmlkZW9tb21lbnRzOg==\r\n\r\n"):
                assert b" 407 " in _says(proxy, head + authorization).split(b"\r\n")[0]
        other = requests.get(f"{web.url}/a", proxies={"http": proxy.url.replace("@", "x@")}, timeout=5)
        assert other.status_code == 407
        assert proxy.url not in repr(proxy.refusals)
    assert web.hits == {}


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:{port}", "localhost:443", "169.254.169.254:80", "[::1]:443", "[::ffff:127.0.0.1]:443",
        "2130706433:443", "example.com:22", "user@example.com:443", "inside.example:443", "mixed.example:443", "",
    ],
)  # fmt: skip
def test_what_the_guard_refuses_is_refused_for_tunnels_and_for_plain_requests(
    web: Web, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    names = {"inside.example": ["10.0.0.1"], "mixed.example": ["1.1.1.1", "127.0.0.1"]}
    genuine = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: object, **options: object) -> object:
        if host not in names:
            return genuine(host, port, *rest, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    target = target.format(port=web.url.rpartition(":")[2])
    with _proxy(allow_private=False) as proxy:
        plain = target.replace(":443", "")
        for head in (f"CONNECT {target or '/'} HTTP/1.1\r\n", f"GET http://{plain}/a HTTP/1.1\r\n"):
            answer = _says(proxy, head + _authorized(proxy))
            assert answer.startswith(b"HTTP/1.1 403 "), answer
        assert [type(refusal) for refusal in proxy.refusals] == [AddressRefused, AddressRefused]
    assert web.hits == {}


def test_other_schemes_methods_and_framings_do_not_pass(web: Web) -> None:
    with _proxy() as proxy:
        for url in ("https://example.com/", "ftp://example.com/", "file:///etc/passwd", "/etc/passwd"):
            assert b" 403 " in _says(proxy, f"GET {url} HTTP/1.1\r\n{_authorized(proxy)}")
        for head in ("Transfer-Encoding: chunked", "Content-Length: -1", "Content-Length: 999999999"):
            assert b" 400 " in _says(proxy, f"POST {web.url}/a HTTP/1.1\r\n{head}\r\n{_authorized(proxy)}")
        assert b" 501 " in _says(proxy, f"TRACE {web.url}/a HTTP/1.1\r\n{_authorized(proxy)}")
        assert b" 502 " in _says(proxy, f"GET http://no-such-name.invalid/ HTTP/1.1\r\n{_authorized(proxy)}")
        assert isinstance(proxy.refusals[-1], SourceNotFound) or "resolved" in proxy.refusals[-1].message
    assert web.hits == {}


def test_a_tunnel_goes_to_the_address_that_was_checked_and_tls_is_the_clients(
    web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    genuine = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: object, **options: object) -> object:
        if host != "localhost":
            return genuine(host, port, *rest, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = web.serve_status("/a", 204)
    with tls_in_front_of(int(url.split(":")[2].removesuffix("/a")), tmp_path) as front, _proxy() as proxy:
        with _through(proxy) as session:
            session.verify = str(front.authority)
            assert session.get(f"https://localhost:{front.port}/a", timeout=5).status_code == 204
        assert proxy.carried_bytes > 0
    assert asked == ["localhost"]


def test_more_bytes_than_allowed_end_every_connection(web: Web) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(CONTENT)
        except OSError:
            pass

    web.answers["/endless"] = endless
    with _proxy(max_bytes=3_000_000) as proxy, _through(proxy) as session:
        with pytest.raises(requests.exceptions.RequestException):
            session.get(f"{web.url}/endless")
        assert [type(refusal) for refusal in proxy.refusals] == [SourceTooLarge]
        with pytest.raises(requests.exceptions.RequestException):
            session.get(f"{web.url}/more")
    assert "/more" not in web.hits


def test_it_ends_with_its_block_and_silence_ends_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with _proxy(idle_seconds=0.2) as proxy:
            tunnel = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
            tunnel.sendall(f"CONNECT {target} HTTP/1.1\r\n{_authorized(proxy)}".encode())
            assert b" 200 " in tunnel.recv(4096)
            assert tunnel.recv(1) == b""  # after the silence
            tunnel.close()
        with _proxy(idle_seconds=60) as proxy:
            tunnel = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
            tunnel.sendall(f"CONNECT {target} HTTP/1.1\r\n{_authorized(proxy)}".encode())
            assert b" 200 " in tunnel.recv(4096)
            plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
            plain.sendall(f"GET http://{target}/ HTTP/1.1\r\n{_authorized(proxy)}".encode())
            arrived = [silent.accept()[0] for _ in range(3)]
            began = time.monotonic()
        assert tunnel.recv(1) == b""
        assert b" 200 " not in plain.recv(4096)
        assert time.monotonic() - began < 5
        for each in (tunnel, plain, *arrived):
            each.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_a_connection_too_many_is_closed_and_leaves_room_when_others_end(web: Web) -> None:
    web.serve_status("/a", 204)
    with _proxy() as proxy:
        held = [socket.create_connection(("127.0.0.1", proxy.port), timeout=5) for _ in range(MOST_CONNECTIONS)]
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as extra:
            assert extra.recv(1) == b""
        for each in held:
            each.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                assert requests.get(f"{web.url}/a", proxies={"http": proxy.url}, timeout=5).status_code == 204
                break
            except requests.exceptions.ConnectionError:
                continue
        assert web.hits == {"/a": 1}
