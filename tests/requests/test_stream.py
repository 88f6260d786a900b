"""The request stream: order, blocking reads, and messages that can't be understood."""

import threading

import pytest
import redis as redis_client

from videomoments_dagster.errors import InvalidConfig, InvalidIdentifier, InvalidInput, ServiceUnavailable
from videomoments_dagster.redis_connection import connect
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.requests.stream import DEAD, DeleteMessage, RequestStream, StartMessage

START = StartMessage("r1", "talk", PipelineType.FULL, "https://example.com/talk.mp4", {"max_moments": 3})


def test_a_message_comes_out_as_it_went_in(redis: "redis_client.Redis") -> None:
    stream = RequestStream(redis)
    stream.publish(START)
    stream.publish(DeleteMessage("old"))
    read = stream.read("0-0", count=10, block_seconds=1)
    assert [stream.parse(fields) for _, fields in read] == [START, DeleteMessage("old")]


def test_reading_from_a_cursor_sees_each_message_once_and_in_order(redis: "redis_client.Redis") -> None:
    stream = RequestStream(redis)
    for n in range(5):
        stream.publish(DeleteMessage(f"v{n}"))
    first = stream.read("0-0", count=2, block_seconds=1)
    rest = stream.read(first[-1][0], count=10, block_seconds=1)
    assert [fields["video_id"] for _, fields in first + rest] == [f"v{n}" for n in range(5)]


def test_reading_again_from_the_old_cursor_loses_nothing(redis: "redis_client.Redis") -> None:
    stream = RequestStream(redis)
    stream.publish(START)
    assert stream.read("0-0", count=10, block_seconds=1) == stream.read("0-0", count=10, block_seconds=1)


def test_an_empty_stream_reads_as_nothing_after_the_wait(redis: "redis_client.Redis") -> None:
    assert RequestStream(redis).read("0-0", count=10, block_seconds=0.05) == []


def test_a_waiting_reader_wakes_at_once(redis: "redis_client.Redis") -> None:
    stream, seen = RequestStream(redis), []
    reader = threading.Thread(target=lambda: seen.extend(stream.read("$", count=1, block_seconds=10)))
    reader.start()
    while reader.is_alive() and not seen:
        stream.publish(START)
        reader.join(0.05)
    assert seen


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, InvalidInput),
        ({"request_id": "r"}, InvalidInput),
        ({"request_id": "r" * 37, "video_id": "v"}, InvalidInput),
        ({"request_id": "r", "video_id": "a/b"}, InvalidIdentifier),
        ({"request_id": "r", "video_id": "v", "config": "{"}, InvalidInput),
        ({"request_id": "r", "video_id": "v", "config": "[]"}, InvalidInput),
        ({"request_id": "r", "video_id": "v", "config": '{"max_moment": 3}'}, InvalidConfig),
        ({"request_id": "r", "video_id": "v", "pipeline_type": "half"}, InvalidInput),
        ({"kind": "delete", "video_id": "../x"}, InvalidIdentifier),
    ],
)
def test_a_message_that_makes_no_sense_is_refused(fields: dict[str, str], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        RequestStream.parse(fields)


def test_another_producers_message_needs_only_an_id_and_a_url() -> None:
    message = RequestStream.parse({"request_id": "r", "url": "HTTPS://Example.com:443/My Talk.mp4?utm_source=x#t"})
    url = "https://example.com/My Talk.mp4"
    assert message == StartMessage("r", "My-Talk", PipelineType.FULL, url, {}, is_derived=True)


def test_a_buried_message_keeps_its_fields_and_says_why(redis: "redis_client.Redis") -> None:
    RequestStream(redis).bury("1-1", {"request_id": "r"}, "invalid_input: no url")
    [(_, fields)] = redis.xrange(DEAD)  # pyright: ignore[reportGeneralTypeIssues]  # sync client
    assert fields == {"request_id": "r", "dead_id": "1-1", "dead_reason": "invalid_input: no url"}


def test_redis_that_is_away_is_named_without_its_password() -> None:
    stream = RequestStream(connect("redis://:secret@127.0.0.1:1/0"))
    with pytest.raises(ServiceUnavailable) as caught:
        stream.publish(START)
    assert "127.0.0.1:1" in caught.value.message
    assert "secret" not in caught.value.message + caught.value.hint
