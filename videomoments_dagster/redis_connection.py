"""How this platform connects to Redis, and what an unreachable Redis is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis._parsers import Encoder
from redis.connection import PythonRespSerializer

from videomoments_dagster.errors import ServiceUnavailable

_PACKER = PythonRespSerializer(6000, Encoder("utf-8", "surrogateescape", True).encode)
"""hiredis, which reads answers in half the time, writes no lone surrogates."""
_DRIVER = redis.DriverInfo()  # left to the library, every connection looks up in files which version it is


def connect(url: str, *, timeout_seconds: float = 15.0) -> "redis.Redis":
    """A client with timeouts, decoding to str. It connects on first use and is shared by the threads of a process.

    Bytes that are not UTF-8 are read as lone surrogates, and written as they were: one value that somebody else put
    there must not keep the rest of an answer from being read."""
    return redis.Redis.from_url(url, **_options(url, timeout_seconds), command_packer=_PACKER)


def connect_async(url: str, *, timeout_seconds: float | None = 15.0) -> "redis.asyncio.Redis":
    """The same for an event loop. Who listens waits without a time-out."""
    return redis.asyncio.Redis.from_url(url, **_options(url, timeout_seconds))


def _options(url: str, timeout_seconds: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "surrogateescape",
        "socket_connect_timeout": min(5.0, timeout_seconds or 5.0),
        "socket_timeout": timeout_seconds,
        "health_check_interval": 30,
        "driver_info": _DRIVER,
    }
    return options if url.startswith("unix:") else options | {"socket_keepalive": True}


def keys_like(client: "redis.Redis", before: str, after: str) -> Iterator[str]:
    """What stands between `before` and `after` in the names of keys, without holding up the server or keeping them all:
    in no order, and one may come twice. Raises ServiceUnavailable."""
    cursor: Any = None
    while cursor != 0:
        with reaching(client):
            answer: Any = client.scan(cursor or 0, match=f"{before}*{after}", count=500)
        cursor, found = answer
        yield from (str(key).removeprefix(before).removesuffix(after) for key in found)


@contextmanager
def reaching(client: "redis.Redis | redis.asyncio.Redis") -> Iterator[None]:
    """Turn failures of Redis inside into ServiceUnavailable, naming the server but not its password. One that answers
    with an error, because it is full or fails over, is as little use as one that is away."""
    try:
        yield
    except redis.RedisError as error:
        options = client.connection_pool.connection_kwargs
        where = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        answered = isinstance(error, redis.ResponseError)
        how = f"refuses: {error}" if answered else f"does not answer ({type(error).__name__})"
        raise ServiceUnavailable(f"Redis at {where} {how}.") from error
