"""The address guard: which URLs and addresses a video may be fetched from, enforced where the connection is made.

DNS is asked once per connection and the connection goes to the very address that was checked, so that a name can't
point elsewhere between check and use. Nothing here downloads; see fetch.py.
"""

import ipaddress
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from videomoments_dagster.errors import AddressRefused, SourceNotFound, SourceUnavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 4096
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not the public internet, although some Python releases call them global
_ALSO_REFUSED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20")))
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".home.arpa")


def validate_url(url: str, *, allow_private: bool = False) -> str:
    """Return `url` stripped, or raise AddressRefused when no server need be asked to refuse it (no DNS here).

    Http(s) only, a host, no user name or password, ports 80 and 443 and no private literal address unless
    `allow_private`.
    """
    url = url.strip()
    parts, port = _parsed(url)
    host = parts.hostname or ""
    if parts.scheme.lower() not in _PORTS:
        raise AddressRefused(f"{_shown(url)} is not an http or https URL.")
    if not host:
        raise AddressRefused(f"{_shown(url)} names no host.")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("A URL with a user name or password is refused.", hint="Use a signed URL instead.")
    if allow_private:
        return url
    if port not in {None, *_PORTS.values()}:
        raise AddressRefused(f"Port {port} of {host} is refused; only 80 and 443 are used.")
    name = host.lower().rstrip(".")
    literal = _literal(name)
    if name == "localhost" or name.endswith(_LOCAL_NAMES) or (literal is not None and not is_public(literal)):
        raise AddressRefused(f"{host} is not a public address.")
    return url


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, seen through IPv4-mapped, NAT64 and 6to4 forms.

    `ipaddress.is_private` alone is not enough: 100.64.0.0/10 is neither private nor global, and NAT64 and multicast
    addresses count as global.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    if any(address in network for network in _ALSO_REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


class GuardedSession(requests.Session):
    """A requests session whose connections are guarded; no proxies, netrc, cookies or redirects of its own.

    `abort()` ends the request in flight from another thread.
    """

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__()
        self.trust_env = False
        self._newest = _OpenSocket()
        adapter = _GuardedAdapter(allow_private, self._newest)
        self.adapters.clear()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def abort(self) -> None:
        self._newest.shut_down()

    def close(self) -> None:
        super().close()
        self._newest.close()


class _OpenSocket:
    """The newest connection of a session, as a duplicate: TLS takes the original socket object over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def opened(self, connected: socket.socket) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = connected.dup()

    def shut_down(self) -> None:
        with self._lock, suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, allow_private: bool, newest: _OpenSocket) -> None:
        self._allow_private, self._newest = allow_private, newest
        super().__init__(max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_options: Any) -> None:
        allow_private, newest = self._allow_private, self._newest

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _connect(self, allow_private, newest)

        class Secure(HTTPSConnection):  # verifies the certificate for the host's name, not for the address
            def _new_conn(self) -> socket.socket:
                return _connect(self, allow_private, newest)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain  # pyright: ignore[reportAssignmentType]  # urllib3's protocol is not its class

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure  # pyright: ignore[reportAssignmentType]

        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **pool_options)
        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _connect(connection: HTTPConnection, allow_private: bool, newest: _OpenSocket) -> socket.socket:
    """Connect to an address of the host that has been checked. All of them must pass: one private one taints it."""
    host, port = connection._dns_host, connection.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise SourceNotFound(f"There is no host {host}.", hint="Check the URL for a typing error.") from None
        raise SourceUnavailable(f"The name {host} can't be resolved now.") from None
    except UnicodeError:
        raise AddressRefused(f"{host} is not a host name.") from None
    if not allow_private:
        for *_, address in found:
            if not is_public(ipaddress.ip_address(str(address[0]).partition("%")[0])):
                raise AddressRefused(f"{host} is at {address[0]}, which is not a public address.")
    timeout = connection.timeout if isinstance(connection.timeout, (int, float)) else None
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(timeout)
            connected.connect(address)
        except OSError as error:
            connected.close()
            failure = error
            continue
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        newest.opened(connected)
        return connected
    raise SourceUnavailable(f"No connection to {host} port {port}: {failure}.")


def _parsed(url: str) -> tuple[SplitResult, int | None]:
    if len(url) > _LONGEST_URL or any(character <= " " or character == "\\" for character in url):
        raise AddressRefused(f"{_shown(url)} is not a URL: it is too long, or has spaces or backslashes.")
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise AddressRefused(f"{_shown(url)} is not a URL.") from None


def _literal(host: str) -> Address | None:
    """The address a host stands for without DNS, also in the odd spellings (decimal, octal) the resolver accepts."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None


def _shown(url: str) -> str:
    """The URL without what may be secret in it (user, password, query), for messages."""
    start = url.partition("?")[0]
    scheme, separator, rest = start.partition("://")
    return repr(f"{scheme}{separator}{rest.rpartition('@')[2]}"[:120])
