"""One SSH connection, made on demand and made again after a drop, shared by all threads that open channels on it.

Host key, login and forwarding are checked, and each refusal has its name. paramiko is loaded on first use only.
"""

import contextlib
import getpass
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from videomoments_dagster.errors import (
    ForwardRefused,
    LoginRefused,
    ModelError,
    ModelNotConfigured,
    ModelUnavailable,
    TunnelUnavailable,
)
from videomoments_dagster.models.host_keys import HostKey, KnownHost

if TYPE_CHECKING:
    import paramiko

T = TypeVar("T")

_CIPHER = "aes128-gcm@openssh.com"
"""Carries half as much again as paramiko's first choice, aes128-ctr."""
_KEEPALIVE_SECONDS = 15
_LOST_AFTER_MS = 45_000
"""The kernel gives the connection up when the host acknowledges nothing, keep-alives included, for so long."""
_PROHIBITED = 1
"""Reason code SSH_OPEN_ADMINISTRATIVELY_PROHIBITED of RFC 4254 section 5.1."""
_PKCS8 = b"-----BEGIN PRIVATE KEY-----"


def dropped() -> tuple[type[Exception], ...]:
    """What paramiko's operations raise when the connection is gone or going."""
    import paramiko

    return paramiko.SSHException, EOFError, OSError


def hang_up(channel: "paramiko.Channel") -> None:
    """Close it, whether or not the connection can still say so."""
    with contextlib.suppress(*dropped()):
        channel.close()


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom. `user` "" is this process's user, `key_file` "" the SSH agent's keys."""

    host: str
    port: int
    user: str
    key_file: str
    known_hosts: Path

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Shared(Generic[T]):
    """Does in a thread of its own what several ask for at the same time; all get its result, or its error.

    An exception that a signal raises in a thread that asks (a run that is cancelled) ends that thread's waiting and
    nothing else. It may come between any two steps, those of `threading`'s conditions included, and leave their lock
    held: so whoever asks touches locks and queues that are made in C only, and no code of the SSH library.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[SimpleQueue[T | _Raised]] | None = None

    def __call__(self, work: Callable[[], T]) -> T:
        outcome: SimpleQueue[T | _Raised] = SimpleQueue()
        with self._lock:
            if self._waiting is not None:
                self._waiting.append(outcome)
            else:
                thread = threading.Thread(target=self._run, args=[work, outcome], name="tunnel-work", daemon=True)
                self._waiting = [outcome]
                try:
                    thread.start()
                except BaseException:  # it may have started all the same, and finds out that it is not wanted
                    self._waiting = None
                    raise
        result = outcome.get()
        if isinstance(result, _Raised):
            try:
                raise result.error
            finally:
                del result  # the error holds this frame
        return result

    def _run(self, work: Callable[[], T], first: "SimpleQueue[T | _Raised]") -> None:
        with self._lock:
            if self._waiting is None or self._waiting[0] is not first:
                return
        try:
            result = work()
        except BaseException as error:
            result = _Raised(error)
        with self._lock:
            waiting, self._waiting = self._waiting, None
        for each in waiting:
            each.put(result)


@dataclass(frozen=True, slots=True)
class _Raised:
    """What the work of `Shared` ended with instead of a result."""

    error: BaseException


class SshConnection:
    """`timeout_seconds` bounds each step: connecting, the key exchange, the login, opening a channel."""

    def __init__(self, login: Login, timeout_seconds: float) -> None:
        self.login = login
        self.socket: socket.socket | None = None
        self._timeout = timeout_seconds
        self._transport: paramiko.Transport | None = None
        self._connecting = Shared["paramiko.Transport"]()
        self._closed = False

    @property
    def is_up(self) -> bool:
        """Whether there is a connection, as far as this side knows."""
        return self._transport is not None and self._transport.is_active()

    def open_channel(self, host: str, port: int) -> "paramiko.Channel":
        """A channel to `host`:`port` as the SSH host sees them, connecting anew if the connection is found dead.

        Raises TunnelUnavailable, HostKeyRefused, LoginRefused, ForwardRefused, ModelNotConfigured when the login's
        host can't be one's name, and ModelUnavailable when the SSH host is well but does not reach `host`:`port`.
        """
        failure: Exception | None = None
        for last in (False, True):
            transport = self._connected()
            begun = time.monotonic()
            try:
                return transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=self._timeout)
            except dropped() as error:
                failure = error
            if isinstance(failure, EOFError | OSError) or not transport.is_active():
                _end(transport)
                continue
            silent = time.monotonic() - begun >= self._timeout
            if silent and not self._answers(transport):
                _end(transport)
            elif silent:
                raise ModelUnavailable(f"SSH host {self.login} waits in vain for {host}:{port} to accept a connection.")
            # paramiko keeps one reason for all channels, so it may be another's: what counts for good is asked twice
            elif last or getattr(failure, "code", _PROHIBITED) != _PROHIBITED:
                raise self._refusal(failure, f"{host}:{port}")
        raise TunnelUnavailable(f"SSH host {self.login} does not open a channel to {host}:{port}: {_said(failure)}.")

    def close(self) -> None:
        """End the connection and its thread. No other is made."""
        self._closed = True
        if self._transport is not None:
            _end(self._transport)

    def _connected(self) -> "paramiko.Transport":
        if self._closed:
            raise TunnelUnavailable(f"The connection to SSH host {self.login} was closed.")
        transport = self._transport
        return transport if transport is not None and transport.is_active() else self._connecting(self._connect)

    def _connect(self) -> "paramiko.Transport":
        if self._transport is not None and self._transport.is_active():
            return self._transport  # made by another thread since we looked
        import paramiko

        _quieten()
        known = KnownHost.read(self.login.known_hosts, self.login.host, self.login.port)
        self.socket = self._dial()
        transport = paramiko.Transport(self.socket)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = self._timeout
        try:
            _prefer(transport, known)
            transport.start_client(timeout=self._timeout)
            if not transport.initial_kex_done:
                raise TimeoutError(f"no keys were exchanged within {self._timeout:g} s")
            key = transport.get_remote_server_key()
            known.check(HostKey(key.get_name(), key.asbytes()))
            _log_in(transport, self.login)
            transport.set_keepalive(_KEEPALIVE_SECONDS)
            if self._closed:
                raise EOFError("the pool was closed")
        except dropped() as error:
            _end(transport)
            raise TunnelUnavailable(f"SSH host {self.login} does not let us in: {_said(error)}.") from None
        except BaseException:
            _end(transport)
            raise
        self._transport = transport
        return transport

    def _dial(self) -> socket.socket:
        try:
            dialled = socket.create_connection((self.login.host, self.login.port), timeout=self._timeout)
        except OSError as error:
            raise TunnelUnavailable(f"SSH host {self.login} can't be reached: {_said(error)}.") from None
        except UnicodeError:
            raise ModelNotConfigured(f"{self.login.host!r} is no name that an SSH host can have.") from None
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each new channel waits for a delayed ACK
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LOST_AFTER_MS)
        return dialled

    def _answers(self, transport: "paramiko.Transport") -> bool:
        """Whether the SSH host itself still speaks. To a session it says yes or no at once, and starts nothing."""
        begun = time.monotonic()
        try:
            hang_up(transport.open_channel("session", timeout=self._timeout))
        except dropped():
            return transport.is_active() and time.monotonic() - begun < self._timeout
        return True

    def _refusal(self, error: Exception, remote: str) -> ModelError:
        if getattr(error, "code", None) == _PROHIBITED:
            return ForwardRefused(f"SSH host {self.login} does not allow forwarding to {remote}.")
        return ModelUnavailable(
            f"SSH host {self.login} can't connect to {remote}: nothing listens there, or it does not know that name."
        )


def _end(transport: "paramiko.Transport") -> None:
    """Close it with its channels, and wait for its thread."""
    with contextlib.suppress(OSError):
        transport.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread
    transport.close()
    if transport.is_alive():
        transport.join(1.0)
    transport.sock.close()


def _prefer(transport: "paramiko.Transport", known: KnownHost) -> None:
    """The cheapest cipher first, and the kinds of host key that can be checked before others the host also has."""
    options = transport.get_security_options()
    options.ciphers = tuple(sorted(options.ciphers, key=lambda name: name != _CIPHER))
    kinds = {"rsa-sha2" if key.type == "ssh-rsa" else key.type for key in known.keys}
    options.key_types = tuple(sorted(options.key_types, key=lambda name: not name.startswith(tuple(kinds))))


def _log_in(transport: "paramiko.Transport", login: Login) -> None:
    """By the key file, or by each of the agent's keys in turn. Raises LoginRefused."""
    import paramiko

    user = login.user or _own_name()
    if not user.isprintable():  # halves of surrogate pairs are not either: the name could not be sent
        raise LoginRefused(f"{user!r} is no user name for SSH host {login}.")
    if login.key_file:
        key = _read_key(login.key_file)
        return _offer(transport, login, user, [key], f"the key in {login.key_file}")
    with contextlib.closing(paramiko.Agent()) as agent:
        keys = agent.get_keys()
        if not keys:
            raise LoginRefused(f"There is no key for SSH host {login}: none is set, and no SSH agent offers one.")
        return _offer(transport, login, user, keys, f"any of the agent's {len(keys)} keys")


def _offer(
    transport: "paramiko.Transport", login: Login, user: str, keys: "Sequence[paramiko.PKey]", tried: str
) -> None:
    """Returns when the host has accepted one. Raises what paramiko raises when the host is lost before it says no."""
    import paramiko

    for count, key in enumerate(keys):
        begun = time.monotonic()
        try:
            wanted = transport.auth_publickey(user, key)
        except paramiko.BadAuthenticationType as error:
            allowed = ", ".join(error.allowed_types)
            raise LoginRefused(f"SSH host {login} takes no keys from {user}, only {allowed}.") from None
        except paramiko.SSHException:
            silent = time.monotonic() - begun >= (transport.auth_timeout or 0)
            if silent or (not count and not transport.is_active()):
                raise
            continue  # it may have hung up after so many wrong keys: then the others are not accepted either
        if wanted:
            raise LoginRefused(f"SSH host {login} wants more than a key from {user}: {', '.join(wanted)}.")
        return
    raise LoginRefused(f"SSH host {login} does not accept {tried} for user {user}.")


def _read_key(name: str) -> "paramiko.PKey":
    import paramiko

    try:
        file = Path(name).expanduser()
    except RuntimeError:
        raise LoginRefused(f"The SSH key file {name} can't be found: there is no such home directory.") from None
    try:
        key = paramiko.PKey.from_path(file)
        key.get_name()  # which a curve that paramiko lacks does not have
    except FileNotFoundError:
        raise LoginRefused(f"The SSH key file {file} does not exist.") from None
    except OSError as error:
        raise LoginRefused(f"The SSH key file {file} can't be read: {error.strerror}.") from None
    except (paramiko.PasswordRequiredException, TypeError):
        raise LoginRefused(
            f"The SSH key file {file} has a passphrase.",
            hint=f"Load it into an SSH agent (`ssh-add {file}`) and unset ssh_key_file, or use a key without one.",
        ) from None
    except Exception:  # whatever else cryptography and paramiko say to a file
        if _PKCS8 in _beginning(file):
            raise LoginRefused(
                f"The SSH key file {file} is in PKCS#8 format (BEGIN PRIVATE KEY), which is not supported.",
                hint=f"Rewrite it in OpenSSH's format: `ssh-keygen -p -N '' -f {file}`.",
            ) from None
        raise LoginRefused(
            f"{file} is not a private SSH key that can be read.",
            hint="RSA, Ed25519 and ECDSA keys (nistp256, nistp384, nistp521) are, as `ssh-keygen` writes them.",
        ) from None
    return key


def _beginning(file: Path) -> bytes:
    with contextlib.suppress(OSError, ValueError):
        return file.read_bytes()[:100]
    return b""


def _own_name() -> str:
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    raise LoginRefused("No SSH user is set, and this process's user has no name.")


def _quieten() -> None:
    """paramiko logs what it raises, with tracebacks. Ours say it once; a level that somebody has set stays."""
    logger = logging.getLogger("paramiko")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


def _said(error: BaseException | None) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.rstrip(".")
