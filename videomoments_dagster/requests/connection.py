"""How this platform connects to Redis, and what an unreachable Redis is called."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from videomoments_dagster.errors import ServiceUnavailable


def connect(url: str) -> "redis.Redis":
    """A client with timeouts, decoding to str. It connects on first use and is shared by the threads of a process."""
    return redis.Redis.from_url(
        url, decode_responses=True, socket_connect_timeout=5, socket_timeout=15, health_check_interval=30
    )


@contextmanager
def reaching(client: "redis.Redis") -> Iterator[None]:
    """Turn connection failures inside into ServiceUnavailable, naming the server but not its password."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        options = client.connection_pool.connection_kwargs
        where = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        raise ServiceUnavailable(f"Redis at {where} does not answer ({type(error).__name__}).") from error
