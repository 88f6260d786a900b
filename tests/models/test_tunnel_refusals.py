"""What an SSH host refuses for good, and what the message says: host key, login, forwarding."""

import logging
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.models.agent import ssh_agent
from tests.models.conftest import StartSshd
from tests.models.remote import echo, remote
from tests.models.sshd import HOST, Sshd, make_key
from videomoments_dagster.errors import (
    ForwardRefused,
    HostKeyRefused,
    LoginRefused,
    ModelError,
    ModelNotConfigured,
    ModelUnavailable,
    TunnelUnavailable,
)
from videomoments_dagster.models.host_keys import HostKey
from videomoments_dagster.models.tunnels import Route, TunnelPool

E = TypeVar("E", bound=ModelError)


@pytest.fixture(scope="module")
def echoing() -> Iterator[int]:
    with remote(echo) as port:
        yield port


def refused(pool: TunnelPool, route: Route, kind: type[E]) -> E:
    with pytest.raises(kind) as refusal, pool.open(route):
        pass
    assert refusal.type is kind
    return refusal.value


def fingerprint(public_key: str) -> str:
    kind, blob = public_key.split()
    return HostKey(kind, b64decode(blob)).fingerprint


# --- host keys


def test_an_unknown_host_is_refused_with_its_fingerprint_and_the_line_that_adds_it(
    sshd: Sshd, pool: TunnelPool, tmp_path: Path
) -> None:
    missing = tmp_path / "known_hosts"
    error = refused(pool, sshd.route(1, known_hosts=missing), HostKeyRefused)
    assert error.message == (
        f"SSH host [{HOST}]:{sshd.port} is not in {missing}; it offers ssh-ed25519 {fingerprint(sshd.public_key)}."
    )
    assert f"`ssh-keyscan -p {sshd.port} {HOST} >> {missing}`" in error.hint
    assert not error.retryable
    assert not error.hint.count("authority")


def test_a_changed_key_is_refused_with_both_fingerprints(sshd: Sshd, pool: TunnelPool, tmp_path: Path) -> None:
    file, former = tmp_path / "known_hosts", make_key(tmp_path / "former")
    file.write_text(f"[{HOST}]:{sshd.port} {former}\n")
    error = refused(pool, sshd.route(1, known_hosts=file), HostKeyRefused)
    assert fingerprint(sshd.public_key) in error.message
    assert fingerprint(former) in error.message
    assert f"ssh-keygen -R '[{HOST}]:{sshd.port}' -f {file}" in error.hint
    file.write_text(sshd.known_hosts.read_text())  # what the operator has confirmed counts at once
    assert refused(pool, sshd.route(1, known_hosts=file), ModelUnavailable)


def test_a_revoked_key_is_refused(sshd: Sshd, pool: TunnelPool, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{sshd.known_hosts.read_text()}@revoked * {sshd.public_key}\n")
    assert "revoked" in refused(pool, sshd.route(1, known_hosts=file), HostKeyRefused).message


def test_nobody_is_logged_in_at_a_host_that_is_not_known(own_sshd: Sshd, pool: TunnelPool, tmp_path: Path) -> None:
    refused(pool, own_sshd.route(1, known_hosts=tmp_path / "none"), HostKeyRefused)
    assert own_sshd.logins == 0


def test_of_a_host_s_keys_the_kind_that_is_known_is_asked_for(
    start_sshd: StartSshd, pool: TunnelPool, tmp_path: Path, echoing: int
) -> None:
    """By itself paramiko asks for Ed25519 first: a host known by its other key would look like a stranger."""
    other = tmp_path / "ecdsa"
    public = make_key(other, kind="ecdsa")
    server = start_sshd(host_keys=[other])
    file = tmp_path / "known_hosts"
    file.write_text(f"[{HOST}]:{server.port} {public}\n")
    with pool.open(server.route(echoing, known_hosts=file)):
        pass
    assert server.logins == 1


# --- logins


def test_a_wrong_key_is_refused_by_name(sshd: Sshd, pool: TunnelPool, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    error = refused(pool, sshd.route(1, key_file=tmp_path / "stranger"), LoginRefused)
    assert error.message == (
        f"SSH host {HOST}:{sshd.port} does not accept the key in {tmp_path / 'stranger'} for user {sshd.user}."
    )
    assert not error.retryable


def test_a_key_file_that_is_not_there_is_named(sshd: Sshd, pool: TunnelPool, tmp_path: Path) -> None:
    error = refused(pool, sshd.route(1, key_file=tmp_path / "none"), LoginRefused)
    assert error.message == f"The SSH key file {tmp_path / 'none'} does not exist."


def test_a_key_with_a_passphrase_is_sent_to_an_agent(sshd: Sshd, pool: TunnelPool, tmp_path: Path) -> None:
    make_key(tmp_path / "locked", passphrase="open sesame")
    error = refused(pool, sshd.route(1, key_file=tmp_path / "locked"), LoginRefused)
    assert "has a passphrase" in error.message
    assert f"ssh-add {tmp_path / 'locked'}" in error.hint


def test_what_is_no_key_is_refused(sshd: Sshd, pool: TunnelPool) -> None:
    error = refused(pool, sshd.route(1, key_file=sshd.known_hosts), LoginRefused)
    assert "is not a private SSH key" in error.message


def test_a_key_in_pkcs8_is_named_with_the_command_that_rewrites_it(
    sshd: Sshd, pool: TunnelPool, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    error = refused(pool, sshd.route(1, key_file=tmp_path / "key"), LoginRefused)
    assert "PKCS#8" in error.message
    assert f"`ssh-keygen -p -N '' -f {tmp_path / 'key'}`" in error.hint


def test_a_key_of_a_kind_that_is_not_known_is_refused(sshd: Sshd, pool: TunnelPool, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP224R1())
    file = tmp_path / "p224"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    error = refused(pool, sshd.route(1, key_file=file), LoginRefused)
    assert error.message == f"{file} is not a private SSH key that can be read."


def test_a_key_in_a_home_that_does_not_exist_is_refused(sshd: Sshd, pool: TunnelPool) -> None:
    error = refused(pool, sshd.route(1, key_file="~nobody-of-that-name/key"), LoginRefused)
    assert error.message.startswith("The SSH key file ~nobody-of-that-name/key can't be found")


def test_a_user_that_can_not_be_sent_is_refused(sshd: Sshd, pool: TunnelPool) -> None:
    error = refused(pool, sshd.route(1, user="me\udc80"), LoginRefused)
    assert error.message == f"'me\\udc80' is no user name for SSH host {HOST}:{sshd.port}."


def test_the_agent_s_keys_are_tried_in_turn(
    own_sshd: Sshd, pool: TunnelPool, tmp_path: Path, echoing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "stranger")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with (
        ssh_agent(tmp_path / "agent", tmp_path / "stranger", own_sshd.key_file),
        pool.open(own_sshd.route(echoing, key_file="")),
    ):
        assert own_sshd.logins == 1


@pytest.mark.parametrize("strangers", [1, 8], ids=["one", "more than the host looks at"])
def test_an_agent_without_the_right_key_is_refused(
    sshd: Sshd, pool: TunnelPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strangers: int
) -> None:
    files = [tmp_path / f"stranger-{number}" for number in range(strangers)]
    for file in files:
        make_key(file)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with ssh_agent(tmp_path / "agent", *files):
        error = refused(pool, sshd.route(1, key_file=""), LoginRefused)
    assert f"any of the agent's {strangers} keys" in error.message


def test_no_key_at_all_is_said(sshd: Sshd, pool: TunnelPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    error = refused(pool, sshd.route(1, key_file=""), LoginRefused)
    assert "no SSH agent" in error.message


def test_a_host_that_wants_more_than_a_key_is_named(start_sshd: StartSshd, pool: TunnelPool) -> None:
    server = start_sshd("KbdInteractiveAuthentication yes", "AuthenticationMethods publickey,publickey")
    assert "wants more than a key" in refused(pool, server.route(1), LoginRefused).message


# --- forwarding


@pytest.mark.parametrize("option", ["AllowTcpForwarding no", f"PermitOpen {HOST}:1"])
def test_a_host_that_forbids_forwarding_is_refused_for_good(
    start_sshd: StartSshd, pool: TunnelPool, option: str, echoing: int
) -> None:
    server = start_sshd(option)
    error = refused(pool, server.route(echoing), ForwardRefused)
    assert error.message == f"SSH host {HOST}:{server.port} does not allow forwarding to {HOST}:{echoing}."
    assert "AllowTcpForwarding" in error.hint
    assert not error.retryable


def test_a_closed_remote_port_is_the_model_s_fault_not_the_tunnel_s(sshd: Sshd, pool: TunnelPool) -> None:
    error = refused(pool, sshd.route(1), ModelUnavailable)
    assert error.message.startswith(f"SSH host {HOST}:{sshd.port} can't connect to {HOST}:1: nothing listens there")
    assert error.retryable


def test_a_remote_name_that_the_host_does_not_know_is_the_model_s_fault_too(sshd: Sshd, pool: TunnelPool) -> None:
    error = refused(pool, sshd.route(80, remote_host="worker-7.invalid"), ModelUnavailable)
    assert "worker-7.invalid:80" in error.message


# --- what is no SSH host


def test_a_host_that_cannot_be_reached_may_come_back(own_sshd: Sshd, pool: TunnelPool) -> None:
    own_sshd.kill()
    error = refused(pool, own_sshd.route(1), TunnelUnavailable)
    assert error.message == f"SSH host {HOST}:{own_sshd.port} can't be reached: Connection refused."
    assert error.retryable


@pytest.mark.parametrize("host", ["gpu..example.org", "a" * 80])
def test_what_can_not_be_a_host_s_name_is_not_configured(sshd: Sshd, pool: TunnelPool, host: str) -> None:
    error = refused(pool, replace(sshd.route(1), ssh_host=host), ModelNotConfigured)
    assert error.message == f"{host!r} is no name that an SSH host can have."


def test_what_does_not_speak_ssh_is_told_apart(
    sshd: Sshd, pool: TunnelPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with remote(lambda client: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)) as port:
        route = Route(HOST, port, sshd.user, str(sshd.key_file), sshd.known_hosts, HOST, 1)
        assert f"SSH host {HOST}:{port} does not let us in" in refused(pool, route, TunnelUnavailable).message
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
