"""What a site talks to and does not own: the videos' server, the bucket, the models. They count what is asked of them,
take their time so that a fault can meet every stage half-way, and fail on demand.
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, local
from typing import Any

from tests.models.stubs import ChatStub, Fault, Reply, SpeechStub, hangs_up, heard, refuses, text_of
from tests.storage.bucket_server import BucketServer, answer_status, running
from tests.web import Web, serving
from videomoments_dagster.requests.stages import Stage

SENTENCES = 8
"""A second each, as long as the video; either half of them is a moment."""
MOMENTS = 2
KEPT_WITHIN_SECONDS = 0.5
"""Until an answer that came is kept where the next attempt finds it."""
HELD_SECONDS = 30.0
"""How long what hangs does: far longer than what is interrupted may take."""
MODEL_GONE, CONNECTION_CUT = refuses(503, "on demand"), hangs_up()
_MODEL_SECONDS, _BUCKET_SECONDS, _SOURCE_SECONDS = 0.3, 0.02, 0.6
_PIECES = 16
_RANGE = re.compile(r"bytes=(\d+)-")
_SENTENCE = re.compile(r"^\[(\d+) \d+s\] ", re.MULTILINE)
_PLACE = re.compile(r"^\W*([se]\d+)\b", re.MULTILINE)
_MOMENT = re.compile(r"^\[(\d+) ", re.MULTILINE)


@dataclass
class Servers:
    """`sent_bytes` of each source by its path. `transcribed` counts the speech model's answers, `answered` those of the
    chat model by the question's digest: no two transcripts are alike, so no two videos ask the same. `asked_at` is when
    a question came last, `received_at` when its answer was first sent whole, by time.monotonic. Without `bucket` and
    `stubs` the platform has its directory and its builtin models."""

    web: Web
    video: Path
    bucket: BucketServer | None = None
    sent_bytes: Counter[str] = field(default_factory=Counter)
    transcribed: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    asked_at: dict[str, float] = field(default_factory=dict)
    received_at: dict[str, float] = field(default_factory=dict)
    stubs: tuple[ChatStub | SpeechStub, ...] = ()
    models_fail: bool = False
    hanging: Stage | None = None
    store_hangs: bool = False
    _let_go: Event = field(default_factory=Event)
    _asked: local = field(default_factory=local)

    def source(self, name: str) -> str:
        """The URL of a video of its own, which is sent slowly, and from any byte on."""
        path = f"/{name}.mp4"
        self.web.answers[path] = self._send
        return self.web.url + path

    @contextmanager
    def bucket_answers(self, status: int) -> Iterator[None]:
        assert self.bucket, "the platform stores in a directory"
        self.bucket.outage = answer_status(status)
        try:
            yield
        finally:
            self.bucket.outage = None

    @contextmanager
    def models_answer(self, fault: Fault) -> Iterator[None]:
        for stub in self.stubs:
            stub.fault = fault
        self.models_fail = True
        try:
            yield
        finally:
            self.models_fail = False
            for stub in self.stubs:
                stub.fault = self.answer_slowly

    def answer_slowly(self, reply: Reply) -> None:
        """The right answer; once it is sent whole, the platform has received it."""
        reply.closing.wait(_MODEL_SECONDS)
        reply.send()
        if digest := getattr(self._asked, "digest", None):
            self.received_at.setdefault(digest, time.monotonic())

    def asked_in_vain(self, struck_at: float) -> list[str]:
        """Questions that were asked after a fault, by time.monotonic, and whose answers had come well before it."""
        before = {digest for digest, at in self.received_at.items() if at < struck_at - KEPT_WITHIN_SECONDS}
        return [digest for digest in before if self.asked_at[digest] > struck_at]

    @contextmanager
    def hangs_in(self, stage: Stage) -> Iterator[None]:
        """The source, or the model that is asked, does not answer when it is asked for `stage`; and the store does not
        once `store_hangs` is set."""
        self._let_go.clear()
        self.hanging = stage
        try:
            yield
        finally:
            self.hanging, self.store_hangs = None, False
            self._let_go.set()

    def _hang(self, *stages: Stage) -> None:
        if self.hanging in stages:
            self._let_go.wait(HELD_SECONDS)

    def _take_time(self, _asker: str, _call: str) -> None:
        Event().wait(_BUCKET_SECONDS)
        if self.store_hangs:
            self._let_go.wait(HELD_SECONDS)

    def _send(self, request: BaseHTTPRequestHandler) -> None:
        content = self.video.read_bytes()
        asked = _RANGE.match(request.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        request.send_response(206 if asked else 200)
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", f'"{len(content)}"')
        step = len(content) // _PIECES + 1
        try:
            request.end_headers()
            for at in range(start, len(content), step):
                request.wfile.write(content[at : at + step])
                self.sent_bytes[request.path] += len(content[at : at + step])
                Event().wait(_SOURCE_SECONDS / _PIECES)
                self._hang(Stage.VIDEO_DOWNLOAD)
        except ConnectionError:  # who asked is gone: that is what this is for
            request.close_connection = True

    def _hear(self, _: Path) -> dict[str, Any]:
        self._hang(Stage.TRANSCRIPTION)
        self.transcribed += not self.models_fail
        said = [f"Take {self.transcribed} says sentence {number} now." for number in range(SENTENCES)]
        words = [
            (word, number + 0.15 * at, number + 0.15 * at + 0.1)
            for number, text in enumerate(said)
            for at, word in enumerate(text.split())
        ]
        return heard(words, [(text, float(number), number + 0.9) for number, text in enumerate(said)])

    def _answer(self, body: dict[str, Any]) -> str:
        question, task = text_of(body), body["messages"][0]["content"]
        self._asked.digest = digest = hashlib.sha256(question.encode()).hexdigest()
        self.asked_at[digest] = time.monotonic()
        self.answered[digest] += not self.models_fail
        if "choose" in task:
            self._hang(Stage.MOMENT_REFINEMENT)
            places = _PLACE.findall(question)
            chosen = {"start": min(places, key=lambda p: p[0] != "s"), "end": [p for p in places if p[0] == "e"][-1]}
            return json.dumps(chosen | {"reason": "It is whole."})
        if "rate" in task:
            self._hang(Stage.SCORING)
            scores = [{"number": int(n), "score": 7, "reason": "Good."} for n in _MOMENT.findall(question)]
            return json.dumps({"scores": scores})
        self._hang(Stage.MOMENT_GENERATION)
        numbers = [int(number) for number in _SENTENCE.findall(question)]
        half = len(numbers) // MOMENTS
        halves = [numbers[at : at + half] for at in range(0, half * MOMENTS, half)]
        moments = [
            {"first": part[0], "last": part[-1], "title": f"Part {part[0]}", "score": 7, "reason": "It is one."}
            for part in halves
            if part
        ]
        return json.dumps({"moments": moments})


@contextmanager
def servers(video: Path) -> Iterator[Servers]:
    """All of them on loopback, for as long as this lasts."""
    with serving() as web, running() as bucket:
        found = Servers(web, video, bucket)
        bucket.before_answer = found._take_time
        with ChatStub(found._answer) as chat, SpeechStub(found._hear) as speech:
            found.stubs = (chat, speech)
            for stub in found.stubs:
                stub.fault = found.answer_slowly
            yield found
