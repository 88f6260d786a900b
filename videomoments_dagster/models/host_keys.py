"""What a known_hosts file says about an SSH host, in OpenSSH's format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

Read here because paramiko's own reader knows neither patterns nor @revoked, and only one key of a kind per host.
"""

import hashlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hmac import HMAC, compare_digest
from pathlib import Path

from videomoments_dagster.errors import HostKeyRefused


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key as it goes over the wire: its type (`ssh-ed25519`) and its bytes."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it: SHA256 in base64 without padding."""
        return "SHA256:" + b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class KnownHost:
    """One host's keys in a known_hosts file. `name` is how the file calls it, `file` where it stands."""

    name: str
    host: str
    port: int
    file: Path
    keys: tuple[HostKey, ...]
    revoked: tuple[HostKey, ...]
    by_authority: bool

    @classmethod
    def read(cls, file: Path, host: str, port: int) -> "KnownHost":
        """A file that is not there knows no host. Raises HostKeyRefused when it can't be read."""
        name = _name(host, port)
        try:
            lines = file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise HostKeyRefused(
                f"The known hosts in {file} can't be read: {error.strerror}.",
                hint="Let this user read it, or set VIDEOMOMENTS_SSH_KNOWN_HOSTS to another file.",
            ) from None
        found: dict[str, list[HostKey]] = {"": [], "@revoked": [], "@cert-authority": []}
        for line in lines:
            marker, names, key = _parse(line)
            if key and marker in found and _matches(names, name):
                found[marker].append(key)
        return cls(
            name,
            host,
            port,
            file,
            tuple(found[""]),
            tuple(found["@revoked"]),
            by_authority=bool(found["@cert-authority"]),
        )

    def check(self, offered: HostKey) -> None:
        """Raises HostKeyRefused unless the file holds this very key for this host."""
        shown = f"{offered.type} {offered.fingerprint}"
        if offered in self.revoked:
            raise HostKeyRefused(
                f"SSH host {self.name} offers a key that {self.file} marks as revoked: {shown}.",
                hint="Whoever holds that key is not to be trusted. The host needs a new one; ask its operator.",
            )
        if offered in self.keys:
            return
        if self.keys:
            known = ", ".join(f"{key.type} {key.fingerprint}" for key in self.keys)
            raise HostKeyRefused(
                f"SSH host {self.name} has another key than before: it offers {shown}; {self.file} knows {known}.",
                hint="Somebody stands between, or the host was set up anew: ask its operator for the fingerprint. "
                f"If it is the offered one: `ssh-keygen -R '{self.name}' -f {self.file}`, then {self._how_to_add}.",
            )
        authority = "It is known by a certificate authority only, which is not supported. " if self.by_authority else ""
        raise HostKeyRefused(
            f"SSH host {self.name} is not in {self.file}; it offers {shown}.",
            hint=f"{authority}Compare the fingerprint with its operator's, then add it: {self._how_to_add}.",
        )

    @property
    def _how_to_add(self) -> str:
        port = "" if self.port == 22 else f"-p {self.port} "
        return f"`ssh-keyscan {port}{self.host} >> {self.file}`"


def _name(host: str, port: int) -> str:
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def _parse(line: str) -> tuple[str, str, HostKey | None]:
    """Marker, names and key of a line; no key for comments and for what is not understood."""
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#"):
        return marker, "", None
    try:
        return marker, fields[0], HostKey(fields[1], b64decode(fields[2], validate=True))
    except ValueError:
        return marker, "", None


def _matches(names: str, name: str) -> bool:
    """Whether a comma-separated list with `*`, `?` and `!` means `name`; or a single hashed name does."""
    if names.startswith("|1|"):
        return _matches_hashed(names, name)
    patterns = [_literal_brackets(pattern.lower()) for pattern in names.split(",")]
    if any(fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _literal_brackets(pattern: str) -> str:
    """OpenSSH knows no character classes: the brackets of `[host]:2222` mean themselves."""
    return pattern.replace("[", "[[]")


def _matches_hashed(hashed: str, name: str) -> bool:
    try:
        salt, digest = (b64decode(part, validate=True) for part in hashed.split("|")[2:4])
    except ValueError:
        return False
    return compare_digest(HMAC(salt, name.encode(), "sha1").digest(), digest)
