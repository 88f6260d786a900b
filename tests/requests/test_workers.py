"""The list of workers: those that announced themselves lately."""

from dataclasses import replace

import redis as redis_client

from videomoments_dagster.requests.workers import ANNOUNCE_SECONDS, TTL_SECONDS, Worker, WorkerRegistry

TALL = Worker(name="w2@tall", host="tall", pid=2, queues=["video", "gpu"], processes=4, running=0)
BIG = Worker(name="w1@big", host="big", pid=1, queues=["video"], processes=8, running=3)


def test_workers_are_listed_by_host_as_they_last_said(redis: "redis_client.Redis") -> None:
    registry = WorkerRegistry(redis)
    assert registry.living() == []
    registry.announce(TALL)
    registry.announce(BIG)
    registry.announce(replace(TALL, running=2))
    assert registry.living() == [BIG, replace(TALL, running=2)]


def test_a_worker_that_leaves_is_listed_no_more(redis: "redis_client.Redis") -> None:
    registry = WorkerRegistry(redis)
    registry.announce(TALL)
    registry.announce(BIG)
    registry.leave(TALL.name)
    assert registry.living() == [BIG]


def test_a_worker_that_fell_silent_is_forgotten(redis: "redis_client.Redis") -> None:
    registry = WorkerRegistry(redis)
    registry.announce(TALL)
    assert ANNOUNCE_SECONDS * 2 < int(str(redis.ttl("worker:w2@tall"))) <= TTL_SECONDS
    redis.delete("worker:w2@tall")
    assert registry.living() == []
    assert redis.scard("workers") == 0
