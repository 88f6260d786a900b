"""The logs as a program reads them: one JSON object a line, with what it is about, and without a secret."""

import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
import pytest

from videomoments_dagster import logs
from videomoments_dagster.defs.logs import redact_errors
from videomoments_dagster.errors import MediaCrashed, NotAVideo
from videomoments_dagster.processes import run_child
from videomoments_dagster.redaction import redacted, secrets_in

SIGNED = "https://storage.googleapis.com/b/videos/a.mp4?X-Goog-Credential=me&X-Goog-Signature=canary5"
QUOTED = [
    ("GET https://host/talk.mp4?token=canary1&t=2 failed", "GET https://host/talk.mp4?*** failed"),
    (f"upload to {SIGNED}.", "upload to https://storage.googleapis.com/b/videos/a.mp4?***"),
    ("url: /objects/a.mp4?expires=9&signature=canary2 (x)", "url: /objects/a.mp4?*** (x)"),
    ("postgresql+psycopg2://me:canary3@db:5432/x", "postgresql+psycopg2://db:5432/x"),
    ("redis://:canary4@cache:6379/0", "redis://cache:6379/0"),
    ("{'Authorization': 'Bearer canary6'}", "{'Authorization': '***'}"),
    ("sent Bearer canary7canary7.", "sent Bearer ***"),
    ("host=db password=canary8 dbname=x", "host=db password=*** dbname=x"),
    ('{"api_key": "canary9"}', '{"api_key": "***"}'),
    ("client_secret=canary&x=1", "client_secret=***&x=1"),
    ("aws_secret_access_key = canary", "aws_secret_access_key = ***"),
    ('{\\"token\\": \\"canary\\"}', '{\\"token\\": \\"***\\"}'),
    ("{'X-Amz-Signature': 'canary', 'a': 1}", "{'X-Amz-Signature': '***', 'a': 1}"),
    ("a -----BEGIN PRIVATE KEY-----\nMIIcanary\n-----END PRIVATE KEY----- b", "a -----BEGIN PRIVATE KEY-----*** b"),
    ("Authorization: Token canary", "Authorization: ***"),
    ("Cookie: a=canary; b=canary", "Cookie: ***"),
    ("max_tokens=5, tokens: 100", "max_tokens=5, tokens: 100"),
    ("Why? Because a=b, and 12:30 is a time.", "Why? Because a=b, and 12:30 is a time."),
]


@pytest.fixture
def lines() -> Iterator[Any]:
    """What the logger `videomoments` writes; call it for the lines so far."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines("tested"))
    logger = logging.getLogger("videomoments")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.mark.parametrize(("said", "shown"), QUOTED, ids=[said[:20] for said, _ in QUOTED])
def test_secrets_are_known_by_their_shape(said: str, shown: str) -> None:
    assert redacted(said) == shown


HOSTILE = [
    "a.",
    "a-",
    "%3F",
    "http:x",
    "data:",
    "://a",
    "a:b@",
    "token:'",
    "bearer ",
    "cookie:",
    "authorization: a ",
    "?",
]


@pytest.mark.parametrize("pattern", [*HOSTILE, "-----BEGIN PRIVATE KEY-----"])
def test_what_a_server_says_is_redacted_in_no_time(pattern: str) -> None:
    """It holds the interpreter's lock meanwhile, and with it the renewal of the process's lease."""
    began = time.process_time()
    for said in (pattern * (64_000 // len(pattern)), pattern * (8_000 // len(pattern))):  # cut, and not
        assert len(redacted(said)) <= 9_000
    assert time.process_time() - began < 0.25


def test_a_secret_that_the_cut_of_a_long_text_goes_through_is_not_in_it() -> None:
    key = "\n".join(["canarycanary"] * 1000)
    for said in (
        f"x -----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY----- the end",
        f"{'x ' * 3000}-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY----- the end",
        f"{'x ' * 1990}redis://:{'canary' * 1000}@host the end",
        f"{'x ' * 9000}redis://:{'canary' * 670}@host the end",
    ):
        assert redacted(said).endswith("the end") and "canary" not in redacted(said)


def test_secrets_of_the_environment_are_found() -> None:
    environment = {
        "DATABASE_URL": "postgresql://me:p%40ss-word@db/x",
        "QWEN_API_KEY": "sk-123456",
        "GCS_KEY": "/etc/key.json",
        "DB_PASS": "pass-1",
        "MODEL_KEYS": "key-1,key-2",
        "QUEUE_URL": "https://queue/?password=pass%202&x=1",
        "DSN": "host=db password=pass-3",
        "PATH": "/usr/bin",
    }
    assert secrets_in(environment) == {
        "p%40ss-word", "p@ss-word", "sk-123456", "pass-1", "key-1,key-2", "key-1", "key-2", "pass%202", "pass 2",
        "pass-3",
    }  # fmt: skip


def test_a_line_says_when_where_and_about_what(lines: Any) -> None:
    log = logging.getLogger("videomoments.example")
    with logs.bound(request_id="r1", video="talk"), logs.bound(stage="SCORING", run_id=None):
        log.warning("Took %d s.", 3, extra={"seconds": 3.0, "url": "https://x/y?token=canary", "all": [1]})
    log.info("Two\nlines.")
    first, second = lines()
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "warning",
        "logger": "videomoments.example",
        "process": "tested",
        "pid": os.getpid(),
        "message": "Took 3 s.",
        "request_id": "r1",
        "video": "talk",
        "stage": "SCORING",
        "seconds": 3.0,
        "url": "https://x/y?***",
    }
    assert second["message"] == "Two\nlines." and "request_id" not in second


def test_tracebacks_are_in_their_line_and_redacted(lines: Any) -> None:
    try:
        try:
            raise ConnectionError("no answer from redis://:canary1@host/0")
        except ConnectionError as error:
            raise RuntimeError("GET /a?signature=canary2") from error
    except RuntimeError:
        logging.getLogger("videomoments").exception("Broken.")
    [line] = lines()
    assert "RuntimeError" in line["exception"] and "ConnectionError" in line["exception"]
    assert "canary" not in line["exception"]


def test_people_get_text_with_the_same_context() -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "Done.", "seconds": 2.5})
    with logs.bound(video="talk"):
        line = logs.TextLines("worker").format(record)
    assert line.endswith("INFO    worker: Done. video=talk seconds=2.5".replace("INFO   ", "info   "))


def test_a_line_of_either_kind_is_readable_again() -> None:
    record = logging.makeLogRecord({"msg": "PostgreSQL is away."})
    assert logs.readable(logs.JsonLines("api").format(record)) == "PostgreSQL is away."
    assert logs.readable("plain") == "plain" and logs.readable("[1]") == "[1]"


_ENDS = """
import logging, threading, warnings
from videomoments_dagster import logs
logs.configure("example", "json")
warnings.warn("old postgresql://me:%(password)s@db/x")
def broken():
    raise ValueError("%(password)s")
thread = threading.Thread(target=broken)
thread.start(); thread.join()
logging.getLogger("any.library").info("connected with %(password)s")
logging.getLogger("any.library").info("two of %%d", "%(password)s")
raise RuntimeError("no %(password)s")
"""


def test_what_ends_a_process_or_a_thread_is_a_line_and_the_environments_secrets_are_in_none() -> None:
    password = "canary-password"
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": f"postgresql://me:{password}@db/x"}
    code = _ENDS % {"password": password}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in found] == ["warning", "error", "info", "info", "critical"]
    assert found[3]["message"] == "two of %d (its arguments do not fit)"
    assert "RuntimeError: no ***" in found[-1]["exception"]
    assert password not in done.stderr


def test_a_media_process_is_a_line_with_the_context_of_its_thread(lines: Any) -> None:
    def run(operation: str) -> object:
        request = {"operation": operation, "arguments": {"to": 1} if operation == "count" else {}}
        return run_child("tests.child_operations", request, timeout_seconds=20, memory_bytes=1 << 30)

    with logs.bound(request_id="r1", video="talk"), ThreadPoolExecutor(1) as pool:
        pool.submit(logs.carried(run), "count").result()
        with pytest.raises(NotAVideo):
            pool.submit(logs.carried(run), "refuse").result()
        with pytest.raises(MediaCrashed):
            run("complain")
    assert [(line["operation"], line["outcome"], line["request_id"], line["video"]) for line in lines()] == [
        ("count", "done", "r1", "talk"),
        ("refuse", "not_a_video", "r1", "talk"),
        ("complain", "media_crashed", "r1", "talk"),
    ]
    assert all(0 < line["seconds"] < 20 for line in lines())
    assert lines()[-1]["said"] == "[mov] moov atom not found in https://host/a.mp4?***"


def test_errors_that_dagster_keeps_hold_no_secret() -> None:
    """They are rows of its event log, and pages of its UI."""
    redact_errors()

    secrets = [f"canary{number}" for number in (1, 2)]  # made here: the lines of this file are kept too

    @dg.asset
    def broken() -> None:
        try:
            raise ConnectionError(f"redis://:{secrets[0]}@host/0 is away")
        except ConnectionError as error:
            raise RuntimeError(f"PUT https://host/a?X-Goog-Signature={secrets[1]}") from error

    with dg.DagsterInstance.ephemeral() as instance:
        quietly = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        result = dg.materialize([broken], instance=instance, raise_on_error=False, run_config=quietly)
        events = "".join(dg.serialize_value(entry) for entry in instance.all_logs(result.run_id))
    assert "redis://host/0 is away" in events and "https://host/a?***" in events
    assert [secret for secret in secrets if secret in events] == []
