"""A real OpenSSH server on loopback for tests and benchmarks: it lets one key in, and is killed and frozen at will.

sshd is taken from the machine, or from .venv/openssh where scripts/sshd.sh has unpacked it.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from videomoments_dagster.models.tunnels import Route
from videomoments_dagster.stack.identity import OURSELVES, Identity

UNPACKED = Path(__file__).parent.parent.parent / ".venv" / "openssh"
HOST = "127.0.0.1"
_CONFIG = """
ListenAddress {host}:{port}
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 200
MaxSessions 2
LogLevel VERBOSE
"""


class NoSshd(Exception):
    """This machine has no OpenSSH server; the message says what to install."""


class Sshd:
    """Listens at `HOST`:`port` and lets `user` in with `key_file`; `known_hosts` names it. `options` are lines of
    sshd_config that come first and therefore rule; `host_keys` are files of others it offers too."""

    def __init__(self, directory: Path, *options: str, host_keys: Sequence[Path] = ()) -> None:
        self.directory = directory
        self.port = _free_port()
        self.key_file = directory / "key"
        self.known_hosts = directory / "known_hosts"
        # As root it would want a user and a directory of its own. Not `nobody`: systemd's name service locks that one
        owner = pwd.getpwnam("daemon") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.user = owner.pw_name
        user = ("--user", f"{owner.pw_uid}:{owner.pw_gid}")
        self._identity = Identity(user) if os.getuid() == 0 else OURSELVES
        self._process: subprocess.Popen[bytes] | None = None
        self.public_key = make_key(directory / "host_key")
        (directory / "authorized_keys").write_text(make_key(self.key_file) + "\n")
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {self.public_key}\n")
        own = [directory / "host_key"]
        for number, file in enumerate(host_keys):
            own.append(directory / f"host_key_{number}")
            shutil.copy(file, own[-1])
        lines = [*options, *_CONFIG.format(host=HOST, port=self.port, directory=directory).splitlines(), *_helpers()]
        lines += [f"HostKey {file}" for file in own]
        (directory / "config").write_text("\n".join(lines) + "\n")
        directory.chmod(0o755)
        for file in own if os.getuid() == 0 else ():
            os.chown(file, owner.pw_uid, owner.pw_gid)

    def start(self) -> None:
        """Returns when it accepts connections."""
        program, environment = _program()
        command = [program, "-D", "-e", "-f", str(self.directory / "config")]
        with (self.directory / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                self._identity.command(command, death_signal=signal.SIGKILL),
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, self.port), 1):
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"sshd did not start: {self.log[-2000:]}")
            time.sleep(0.01)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @property
    def logins(self) -> int:
        """How often a key was accepted so far."""
        return self.log.count("Accepted publickey")

    def sessions(self) -> list[psutil.Process]:
        """The processes that serve connections."""
        assert self._process
        return psutil.Process(self._process.pid).children(recursive=True)

    def kill_sessions(self) -> None:
        for session in self.sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()

    def kill(self) -> None:
        """The whole server, with the connections it serves."""
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def route(
        self,
        remote_port: int,
        *,
        remote_host: str = HOST,
        user: str | None = None,
        key_file: Path | str | None = None,
        known_hosts: Path | None = None,
        local_port: int = 0,
        asked_by: str = "parakeet",
    ) -> Route:
        """To `remote_host`:`remote_port` over this server."""
        return Route(
            HOST,
            self.port,
            self.user if user is None else user,
            str(self.key_file if key_file is None else key_file),
            known_hosts or self.known_hosts,
            remote_host,
            remote_port,
            local_port,
            asked_by,
        )

    def _signal(self, number: int) -> None:
        if not self._process:
            return
        sessions = self.sessions()
        self._process.send_signal(number)  # the server first: it must not answer for the others
        for session in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                session.send_signal(number)


@contextlib.contextmanager
def running_sshd(*options: str, host_keys: Sequence[Path] = ()) -> Iterator[Sshd]:
    """A server of one's own, in a directory that its user may read; gone with what it serves in the end."""
    directory = Path(tempfile.mkdtemp(prefix="sshd-"))
    server = Sshd(directory, *options, host_keys=host_keys)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


@contextlib.contextmanager
def sshd_or_skip(*options: str, host_keys: Sequence[Path] = ()) -> Iterator[Sshd]:
    """`running_sshd` for tests; on a machine without one, and with no packages to take it from, a skip that says so."""
    try:
        _program()
    except NoSshd as error:
        pytest.skip(str(error))
    with running_sshd(*options, host_keys=host_keys) as server:
        yield server


def make_key(file: Path, *, kind: Literal["ed25519", "ecdsa"] = "ed25519", passphrase: str = "") -> str:
    """Write a private key; returns the public one as it stands in known_hosts and authorized_keys."""
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()


def _program() -> tuple[str, dict[str, str]]:
    """The absolute path of sshd, which it insists on, and what its environment needs."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which("sshd", path=path):
        return found, {}
    unpacked = UNPACKED / "usr" / "sbin" / "sshd"
    if unpacked.exists():
        libraries = [*UNPACKED.glob("usr/lib/*-linux-gnu*"), *UNPACKED.glob("lib/*-linux-gnu*")]
        return str(unpacked), {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
    raise NoSshd(
        "There is no OpenSSH server for the tunnel tests. Install it (Debian, Ubuntu: apt-get install openssh-server; "
        "Fedora: dnf install openssh-server), or run scripts/sshd.sh, which unpacks one into .venv/openssh."
    )


def _helpers() -> list[str]:
    """From 9.8 on sshd starts other programs; it finds those of an unpacked server only if told."""
    helpers = {"SshdSessionPath": "sshd-session", "SshdAuthPath": "sshd-auth"}
    directory = UNPACKED / "usr" / "lib" / "openssh"
    if not _program()[0].startswith(str(UNPACKED)):
        return []
    return [f"{key} {directory / name}" for key, name in helpers.items() if (directory / name).exists()]


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]
