"""known_hosts as OpenSSH writes and reads it."""

from base64 import b64decode, b64encode
from hmac import HMAC
from pathlib import Path

import pytest

from videomoments_dagster.errors import HostKeyRefused
from videomoments_dagster.models.host_keys import HostKey, KnownHost

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIE0c7Z0mP2Uy1cTuhKx0P3dPyBkqgB0vYkW2lY1aUqzB"
OTHER = KEY[:-4] + "AAAA"
OFFERED = HostKey("ssh-ed25519", b64decode(KEY))


def hashed(name: str) -> str:
    salt = bytes(range(20))
    digest = HMAC(salt, name.encode(), "sha1").digest()
    return f"|1|{b64encode(salt).decode()}|{b64encode(digest).decode()}"


def known(tmp_path: Path, text: str, host: str = "gpu.example.org", port: int = 22) -> KnownHost:
    file = tmp_path / "known_hosts"
    file.write_text(text)
    return KnownHost.read(file, host, port)


@pytest.mark.parametrize(
    ("names", "port"),
    [
        ("gpu.example.org", 22),
        ("GPU.example.org", 22),
        ("10.0.0.7,gpu.example.org", 22),
        ("*.example.org", 22),
        ("*.example.org,!cpu.example.org", 22),
        ("g?u.example.org", 22),
        ("[gpu.example.org]:2222", 2222),
        ("[*.example.org]:2222", 2222),
        (hashed("gpu.example.org"), 22),
        (hashed("[gpu.example.org]:2222"), 2222),
    ],
)
def test_a_host_is_found_by_each_way_of_naming_it(tmp_path: Path, names: str, port: int) -> None:
    known(tmp_path, f"{names} ssh-ed25519 {KEY} a comment\n", port=port).check(OFFERED)


@pytest.mark.parametrize(
    ("names", "port"),
    [
        ("gpu.example.org", 2222),
        ("[gpu.example.org]:2222", 22),
        ("example.org", 22),
        ("*,!gpu.example.org", 22),
        ("[g]pu.example.org", 22),
        (hashed("cpu.example.org"), 22),
        ("|1|nonsense|more", 22),
        ("|1|", 22),
        ("#gpu.example.org", 22),
    ],
)
def test_a_host_under_another_name_or_port_is_unknown(tmp_path: Path, names: str, port: int) -> None:
    with pytest.raises(HostKeyRefused, match="is not in"):
        known(tmp_path, f"{names} ssh-ed25519 {KEY}\n", port=port).check(OFFERED)


def test_one_of_several_keys_of_a_kind_is_enough(tmp_path: Path) -> None:
    known(tmp_path, f"gpu.example.org ssh-ed25519 {OTHER}\ngpu.example.org ssh-ed25519 {KEY}\n").check(OFFERED)


def test_broken_lines_are_passed_over(tmp_path: Path) -> None:
    text = f"\n# note\ngpu.example.org\ngpu.example.org ssh-ed25519 ???\n@odd\ngpu.example.org ssh-ed25519 {KEY}\n"
    known(tmp_path, text).check(OFFERED)


def test_a_revoked_key_is_refused_although_it_is_known(tmp_path: Path) -> None:
    with pytest.raises(HostKeyRefused, match="revoked"):
        known(tmp_path, f"gpu.example.org ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}\n").check(OFFERED)


def test_a_host_known_by_an_authority_only_is_refused_and_told_so(tmp_path: Path) -> None:
    with pytest.raises(HostKeyRefused) as refused:
        known(tmp_path, f"@cert-authority *.example.org ssh-ed25519 {KEY}\n").check(OFFERED)
    assert "authority" in refused.value.hint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostKeyRefused, match="can't be read"):
        KnownHost.read(tmp_path, "gpu.example.org", 22)
