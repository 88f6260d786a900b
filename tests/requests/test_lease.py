"""Who may execute a run: one holder at a time, and nobody after the verdict that it is lost."""

import pytest
import redis as redis_client

from videomoments_dagster.errors import ServiceUnavailable
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.lease import (
    CONFIRM_SECONDS,
    FENCE_SECONDS,
    RENEW_SECONDS,
    TTL_SECONDS,
    LeaseLost,
    RunLease,
)
from videomoments_dagster.stack.ports import free_port


def test_one_process_holds_a_run_until_it_lets_go(redis: "redis_client.Redis") -> None:
    lease = RunLease(redis, "run")
    assert lease.holder() is None
    assert lease.claim("a")
    assert not lease.claim("b")
    assert lease.holder() == "a"
    lease.release("b")
    assert lease.holder() == "a", "only the holder lets go"
    lease.release("a")
    assert lease.claim("b")


def test_a_claim_whose_answer_was_lost_is_claimed_again(redis: "redis_client.Redis") -> None:
    assert RunLease(redis, "run").claim("a")
    assert RunLease(redis, "run").claim("a")


def test_runs_have_leases_of_their_own(redis: "redis_client.Redis") -> None:
    assert RunLease(redis, "one").claim("a")
    assert RunLease(redis, "other").claim("b")


def test_a_lease_ends_unless_it_is_renewed(redis: "redis_client.Redis") -> None:
    lease = RunLease(redis, "run")
    lease.claim("a")
    assert 0 < int(str(redis.pttl("run:run:lease"))) <= TTL_SECONDS * 1000
    redis.pexpire("run:run:lease", 500)
    lease.renew("a")
    assert int(str(redis.pttl("run:run:lease"))) > 1000 * (TTL_SECONDS - 1)


def test_a_lease_that_redis_lost_is_taken_back_by_who_is_first(redis: "redis_client.Redis") -> None:
    lease = RunLease(redis, "run")
    lease.claim("a")
    redis.flushall()
    lease.renew("a")
    assert lease.holder() == "a"
    redis.flushall()
    lease.claim("b")
    with pytest.raises(LeaseLost):
        lease.renew("a")
    assert lease.holder() == "b"


def test_a_lost_run_comes_back_to_nobody(redis: "redis_client.Redis") -> None:
    lease = RunLease(redis, "run")
    assert lease.declare_lost("its worker is gone")
    assert lease.verdict() == "its worker is gone"
    assert lease.holder() is None
    assert not lease.claim("b")
    with pytest.raises(LeaseLost):
        lease.renew("a")
    lease.release("a")
    assert lease.verdict(), "a late holder does not take it back"


def test_a_held_run_is_lost_only_when_who_ends_the_holder_says_so(redis: "redis_client.Redis") -> None:
    lease = RunLease(redis, "run")
    lease.claim("host:1:a")
    assert not lease.declare_lost("gone")
    assert not lease.declare_lost("stopped", held_by="host:2:")
    assert lease.verdict() is None
    assert lease.declare_lost("stopped", held_by="host:1:")
    assert lease.verdict() == "stopped"


def test_a_forgotten_verdict_lets_the_run_be_claimed_but_takes_it_from_no_holder(
    redis: "redis_client.Redis",
) -> None:
    lease = RunLease(redis, "run")
    lease.declare_lost("its process died")
    lease.forget_verdict()
    assert lease.claim("a")
    lease.forget_verdict()
    assert lease.holder() == "a"


def test_an_order_to_cancel_reaches_the_holder_and_no_later_one(redis: "redis_client.Redis") -> None:
    lease = RunLease(redis, "run")
    lease.claim("a")
    assert not lease.renew("a")
    lease.order_cancel()
    assert lease.renew("a")
    lease.release("a")
    lease.claim("b")
    assert not lease.renew("b")


def test_who_can_not_renew_is_dead_before_its_run_is_given_to_another() -> None:
    assert RENEW_SECONDS * 3 < TTL_SECONDS < FENCE_SECONDS < TTL_SECONDS + CONFIRM_SECONDS


def test_a_redis_that_is_away_is_named() -> None:
    lease = RunLease(connect(f"redis://127.0.0.1:{free_port()}/0"), "run")
    with pytest.raises(ServiceUnavailable, match="Redis at"):
        lease.claim("a")
    with pytest.raises(ServiceUnavailable, match="Redis at"):
        lease.renew("a")
