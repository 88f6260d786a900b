"""An SSH agent with Ed25519 keys, as little of its protocol as a login needs (draft-miller-ssh-agent)."""

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_LIST, _LISTED, _SIGN, _SIGNED = 11, 12, 13, 14


@contextlib.contextmanager
def ssh_agent(socket_file: Path, *key_files: Path) -> Iterator[None]:
    """Listens at `socket_file` while this lasts and offers these keys in order."""
    keys = {_public(key): key for key in map(_read, key_files)}

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while header := self.rfile.read(4):
                request = self.rfile.read(*struct.unpack(">I", header))
                self.wfile.write(_text(_answer(keys, request)))

    with socketserver.ThreadingUnixStreamServer(str(socket_file), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _answer(keys: dict[bytes, Ed25519PrivateKey], request: bytes) -> bytes:
    if request[0] == _LIST:
        listed = b"".join(_text(public) + _text(b"a comment") for public in keys)
        return struct.pack(">BI", _LISTED, len(keys)) + listed
    assert request[0] == _SIGN
    public, rest = _take(request[1:])
    data, _ = _take(rest)
    return bytes([_SIGNED]) + _text(_text(b"ssh-ed25519") + _text(keys[public].sign(data)))


def _read(file: Path) -> Ed25519PrivateKey:
    key = serialization.load_ssh_private_key(file.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def _public(key: Ed25519PrivateKey) -> bytes:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return _text(b"ssh-ed25519") + _text(raw)


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]
