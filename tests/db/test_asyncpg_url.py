"""What asyncpg makes of a database URL is what libpq makes of it."""

import ssl

import pytest
from sqlalchemy import make_url

from db.asyncpg_url import connect_arguments
from db.session import DRIVER, Database
from videomoments_dagster.errors import InvalidConfig

WHERE = ("host", "port", "user", "password", "database")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("me:p%40ss@db.example.org:6432/videos", (["db.example.org"], [6432], "me", "p@ss", "videos")),
        ("me@db.example.org/videos", (["db.example.org"], [5432], "me", None, "videos")),
        ("me@[::1]:6000/videos", (["::1"], [6000], "me", None, "videos")),
        ("me@/videos?host=::1", (["::1"], [5432], "me", None, "videos")),
        ("me@/videos?host=/run/postgresql&port=6000", (["/run/postgresql"], [6000], "me", None, "videos")),
        ("me@db/videos?dbname=others", (["db"], [5432], "me", None, "others")),
        ("me@db:1/videos?host=10.0.0.1&port=2&user=you", (["10.0.0.1"], [2], "you", None, "videos")),
        ("me@/videos?host=a:1&host=b:2", (["a", "b"], [1, 2], "me", None, "videos")),
        ("me@/videos?host=a,b&port=7,8", (["a", "b"], [7, 8], "me", None, "videos")),
        ("/my%20videos%23a", (None, None, None, None, "my%20videos%23a")),
    ],
)
def test_the_query_overrides_what_stands_before(url: str, expected: tuple[object, ...]) -> None:
    found = connect_arguments(make_url(f"{DRIVER}://{url}"))
    assert tuple(found.get(name) for name in WHERE) == expected


def test_tls_is_as_strict_as_it_is_asked_to_be(tmp_path) -> None:
    certificate = tmp_path / "root & more.crt"
    found = connect_arguments(make_url(f"{DRIVER}://me@db/v").update_query_dict(
        {"sslmode": "verify-full", "sslrootcert": str(certificate)}
    ))  # fmt: skip
    assert found["dsn"].startswith("postgresql://?sslmode=verify-full&sslrootcert=")
    assert " " not in found["dsn"]
    system = connect_arguments(make_url(f"{DRIVER}://me@db/v?sslmode=verify-full&sslrootcert=system"))
    assert system["ssl"].verify_mode is ssl.CERT_REQUIRED
    assert system["ssl"].check_hostname
    assert system["dsn"] is None


def test_settings_of_the_server_are_sent_and_those_of_libpq_are_not() -> None:
    url = f"{DRIVER}://me@db/v?application_name=mine&options=-c%20work_mem%3D5MB&connect_timeout=3&keepalives_idle=9"
    assert connect_arguments(make_url(url))["server_settings"] == {
        "application_name": "mine",
        "options": "-c work_mem=5MB",
    }


@pytest.mark.parametrize("query", ["channel_binding=require", "hostaddr=10.0.0.1", "options=-ca=1&options=-cb=2"])
def test_what_can_not_be_kept_is_refused_without_the_password(query: str) -> None:
    database = Database(f"{DRIVER}://me:canary@db/v?{query}")  # sessions can
    with pytest.raises(InvalidConfig) as refusal:
        database.check_async()
    assert query.partition("=")[0] in refusal.value.message
    assert "canary" not in str(refusal.value)


def test_hosts_and_ports_that_do_not_match_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="hosts and ports"):
        connect_arguments(make_url(f"{DRIVER}://me:canary@/v?host=a,b&port=7"))
