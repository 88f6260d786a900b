"""The address guard: which URLs and addresses of a user's choosing we connect to, enforced where it is done.

DNS is asked once per connection and the connection goes to the very address that was checked, so that a name can't
point elsewhere between check and use. docs/addresses.md lists the tricks and what each gets.
"""

import ipaddress
import logging
import re
import socket
import threading
import time
import unicodedata
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from itertools import zip_longest
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from videomoments_dagster.errors import AddressRefused, SourceNotFound, SourceUnavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

WEB_PORTS = frozenset({80, 443})

_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 4096
_MOST_TRIED = 4
"""Addresses of a name."""
_SHORTEST_SECONDS = 0.001
"""0 would not wait at all."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not the public internet, although `ipaddress` calls them global, in some releases or in all (IANA's registries of
# special-purpose addresses); the last is where Azure's hosts answer their machines
_ALSO_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001:20::/28", "3fff::/20", "5f00::/16",
            "168.63.129.16/32",
        ),
    )
)  # fmt: skip
_ISATAP = {0x00005EFE, 0x02005EFE}  # RFC 5214, 6.1: before the IPv4 address in the lower half
_LOCAL_NAMES = ("localhost", "local", "internal", "localdomain", "home.arpa", "lan", "home", "corp", "intranet")
_DOTS = re.compile("[\u3002\uff0e\uff61]")  # what IDNA reads as a dot (RFC 3490, 3.1)
_log = logging.getLogger("videomoments.addresses")


def validate_url(url: str, *, allow_private: bool = False, ports: Collection[int] = WEB_PORTS) -> str:
    """Return `url` stripped, or raise AddressRefused when no server need be asked to refuse it (no DNS here).

    Http(s) only, a host, no user name or password. Unless `allow_private`, only `ports` too, no private literal
    address, no literal in a spelling that two readers may read as two addresses, and no name of a local network.
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
    port = _PORTS[parts.scheme.lower()] if port is None else port
    if port not in ports:
        used = " and ".join(map(str, sorted(ports)))
        raise AddressRefused(f"Port {port} of {host} is refused; only {used} are used.")
    _check_host(host)
    return url


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, seen through IPv4-mapped, NAT64, 6to4 and ISATAP forms.

    `ipaddress.is_private` alone is not enough: 100.64.0.0/10 is neither private nor global, and NAT64 and multicast
    addresses count as global.
    """
    if isinstance(address, ipaddress.IPv6Address):
        low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        inner = address.ipv4_mapped or address.sixtofour or (low if address in _NAT64 else None)
        if inner is not None:
            return is_public(inner)
        is_isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
        if (
            address.scope_id
            or address.teredo is not None
            or address.is_site_local
            or (is_isatap and not is_public(low))
        ):
            return False
    if any(address in network for network in _ALSO_REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def connect(
    host: str,
    port: int,
    *,
    allow_private: bool,
    ports: Collection[int] = WEB_PORTS,
    timeout_seconds: float | None,
    on_socket: Callable[[socket.socket], None] = lambda _: None,
) -> socket.socket:
    """Connect to an address of `host` that has been checked. All of them must pass: one private one taints it; at most
    four are tried, of both families.

    DNS is asked once. `timeout_seconds` is for that and all addresses together, and the socket's own then. `on_socket`
    is told of each socket before it connects and of the one that has. Raises AddressRefused, SourceNotFound for a name
    that is none, SourceUnavailable, or what `on_socket` does.
    """
    until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    try:
        found = _resolved(host, port, timeout_seconds)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise SourceNotFound(f"There is no host {host}.", hint="Check the URL for a typing error.") from None
        raise SourceUnavailable(f"The name {host} can't be resolved now.") from None
    except UnicodeError:
        raise AddressRefused(f"{host} is not a host name.") from None
    if not allow_private:
        if port not in ports:
            raise AddressRefused(f"Port {port} of {host} is refused.")
        for *_, address in found:
            if not is_public(ipaddress.ip_address(str(address[0]))):
                _log.info("%s is at %s, which is not a public address.", host, address[0])
                raise AddressRefused(f"{host} is at an address that is not public.")
    failure: OSError | None = None
    addresses = _in_turns(found)
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        connected = socket.socket(family, kind, protocol)
        try:
            on_socket(connected)
            if until is not None:  # one that is silent leaves time for those after it
                share = (until - time.monotonic()) / (len(addresses) - number)
                connected.settimeout(max(share, _SHORTEST_SECONDS))
            connected.connect(address)
            connected.settimeout(timeout_seconds)
            on_socket(connected)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connected.close()
            failure = error
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise SourceUnavailable(f"No connection to {host} port {port}: {failure}.")


def _resolved(host: str, port: int, timeout_seconds: float | None) -> list[Any]:
    """What getaddrinfo says. It has no limit of its own: a thread asks, and is left behind until the resolver gives up
    when that takes too long. Raises SourceUnavailable then, and what getaddrinfo raises."""
    answer: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        return answer.result(timeout_seconds)
    except TimeoutError:
        raise SourceUnavailable(f"The name {host} can't be resolved now.") from None


def _in_turns(found: list[Any]) -> list[Any]:
    """The addresses to try: a family that leads nowhere does not use up all tries (RFC 8305, 4)."""
    first = [each for each in found if each[0] == found[0][0]]
    other = [each for each in found if each[0] != found[0][0]]
    return [each for pair in zip_longest(first, other) for each in pair if each][:_MOST_TRIED]


class GuardedSession(requests.Session):
    """A requests session whose connections are guarded; no proxies, netrc or cookies of the machine's user.

    It follows no redirect, whatever it is told: who wants to checks the next URL with `validate_url`. `abort()`, from
    another thread, ends the request in flight, however far it is, and every later one.
    """

    def __init__(self, *, allow_private: bool, ports: Collection[int] = WEB_PORTS) -> None:
        super().__init__()
        self.trust_env = False
        self._newest = _OpenSocket()

        def guarded(connection: HTTPConnection) -> socket.socket:
            timeout = connection.timeout if isinstance(connection.timeout, (int, float)) else None
            host, port = connection._dns_host, connection.port
            return connect(
                host,
                port,
                allow_private=allow_private,
                ports=ports,
                timeout_seconds=timeout,
                on_socket=self._newest.opened,
            )

        adapter = _GuardedAdapter(guarded)
        self.adapters.clear()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: a redirect is an answer like any other."""

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
        self._is_shut_down = False

    def opened(self, made: socket.socket) -> None:
        """Told before it connects, which may take long, and after: what is shut down before it begins connects all the
        same. Raises SourceUnavailable once `shut_down` was called."""
        with self._lock:
            if self._is_shut_down:
                raise SourceUnavailable("The request was given up.")
            if self._socket is not None:
                self._socket.close()
            self._socket = made.dup()

    def shut_down(self) -> None:
        with self._lock, suppress(OSError):
            self._is_shut_down = True
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, guarded: Callable[[HTTPConnection], socket.socket]) -> None:
        self._guarded = guarded
        super().__init__(max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_options: Any) -> None:
        guarded = self._guarded

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return guarded(self)

        class Secure(HTTPSConnection):  # verifies the certificate for the host's name, not for the address
            def _new_conn(self) -> socket.socket:
                return guarded(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain  # pyright: ignore[reportAssignmentType]  # urllib3's protocol is not its class

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure  # pyright: ignore[reportAssignmentType]

        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **pool_options)
        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _parsed(url: str) -> tuple[SplitResult, int | None]:
    if len(url) > _LONGEST_URL or any(character <= " " or character == "\\" for character in url):
        raise AddressRefused(f"{_shown(url)} is not a URL: it is too long, or has spaces or backslashes.")
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise AddressRefused(f"{_shown(url)} is not a URL.") from None


def _check_host(host: str) -> None:
    """By its name alone, as a resolver would read it: full-width digits and dots are digits and dots."""
    name = _DOTS.sub(".", unicodedata.normalize("NFKC", host)).lower().rstrip(".")
    literal = _literal(name)
    if literal is None:
        is_too_long = len(name) > 253 or not all(0 < len(label) < 64 for label in name.split("."))  # RFC 1035, 2.3.4
        if is_too_long or not name.isprintable() or "%" in name:
            raise AddressRefused(f"{host[:80]!a} is not a host name.")
        if "." not in name or any(name.endswith(f".{local}") for local in _LOCAL_NAMES):
            raise AddressRefused(f"{host} is not a public name.")
    elif not is_public(literal):
        raise AddressRefused(f"{host} is not a public address.")
    elif literal.version == 4 and str(literal) != host:
        raise AddressRefused(f"{host} is an address in an unusual spelling.", hint=f"Write it as {literal}.")


def _literal(name: str) -> Address | None:
    """The address a host stands for without DNS, also in the odd spellings (decimal, octal) the resolver accepts."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name)) if name[:1].isdigit() else None
    except (OSError, UnicodeError):
        return None


def _shown(url: str) -> str:
    """The URL without what may be secret in it (user, password, query), for messages."""
    start = url.partition("?")[0]
    scheme, separator, rest = start.partition("://")
    return repr(f"{scheme}{separator}{rest.rpartition('@')[2]}"[:120])
