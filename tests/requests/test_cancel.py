"""The cancel flag: heard by the process that runs what it names, and by nobody else."""

import redis as redis_client

from videomoments_dagster.requests.cancel import TTL_SECONDS, CancelFlag, key
from videomoments_dagster.requests.lease import RunLease


def test_a_run_hears_the_flag_of_its_video_that_names_it(redis: "redis_client.Redis") -> None:
    mine = RunLease(redis, "run", video="talk", owner="request")
    other = RunLease(redis, "other", video="show", owner="another")
    later = RunLease(redis, "later", video="talk", owner="a later request")
    for lease in (mine, other, later):
        assert lease.claim("process") and not lease.renew("process")
    CancelFlag(redis).order("talk", "request")
    assert [lease.renew("process") for lease in (mine, other, later)] == [True, False, False]
    assert 0 < int(redis.ttl(key("talk"))) <= TTL_SECONDS == 300  # pyright: ignore[reportArgumentType]
    assert not CancelFlag(redis).forget_if("talk", "a later request")
    assert mine.renew("process")
    assert CancelFlag(redis).forget_if("talk", "request")
    assert not mine.renew("process")


def test_whoever_waits_is_woken_with_every_video_once(redis: "redis_client.Redis") -> None:
    flag = CancelFlag(redis)
    assert flag.wait(0.01) == []
    for video in ("one", "two", "one"):
        flag.order(video, f"request of {video}")
    assert sorted(flag.wait(0.01)) == ["one", "two"]
    assert flag.ordered("one") == "request of one"
    assert flag.wait(0.01) == []
