"""REDIS_URL is read by redis-py and by Celery: both must take it for the same server, database and certificate."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis as redis_client
from dagster_celery.make_app import make_app
from kombu.exceptions import OperationalError

from tests.tls import Front, tls_in_front_of
from tests.workers.site import until
from videomoments_dagster.defs.workers.configuration import celery_arguments
from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import connect, reaching
from videomoments_dagster.stack.binaries import find_redis


@pytest.fixture
def front(redis_url: str, tmp_path: Path) -> Iterator[Front]:
    with tls_in_front_of(urlsplit(redis_url).port or 0, tmp_path) as front:
        yield front


def _send(url: str, queue: str) -> None:
    """One message, as the launcher sends them."""
    with make_app(celery_arguments(url)).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        with closing(connection.SimpleQueue(queue)) as waiting:
            waiting.put({})


def test_with_tls_a_server_is_reached_when_its_authority_is_named(
    front: Front, redis_url: str, redis: "redis_client.Redis"
) -> None:
    password = urlsplit(redis_url).password
    url = f"rediss://default:{password}@localhost:{front.port}/0?ssl_cert_reqs=required&ssl_ca_certs={front.authority}"
    _send(url, "over-tls")
    with closing(connect(url)) as client:
        assert client.llen("over-tls") == 1
    assert redis.llen("over-tls") == 1


@pytest.mark.parametrize("query", ["", "?ssl_cert_reqs=required"])
def test_a_certificate_that_nobody_vouches_for_is_refused(front: Front, redis_url: str, query: str) -> None:
    url = f"rediss://default:{urlsplit(redis_url).password}@localhost:{front.port}/0{query}"
    with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        _send(url, "unseen")
    with closing(connect(url)) as client, pytest.raises(ServiceUnavailable), reaching(client):
        client.ping()


def test_a_unix_socket_means_the_same_database_to_both(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    argv = [str(find_redis()), "--port", "0", "--unixsocket", str(path), "--requirepass", "secret", "--save", ""]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        try:
            until(path.exists)
            for database in (0, 1):
                _send(f"unix://default:secret@{path}?db={database}", f"of-database-{database}")
                with closing(connect(f"unix://default:secret@{path}?db={database}")) as client:
                    assert client.keys("of-*") == [f"of-database-{database}"]
        finally:
            server.terminate()
