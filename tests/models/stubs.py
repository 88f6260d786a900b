"""Model servers for tests: they speak the two protocols over real HTTP on loopback, and misbehave on request.

`stub.script(fault, ...)` gives the next requests a fault each; after that, and without one, the stub answers well.
"""

import hashlib
import json
import re
import socket
import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.retries import Retries
from videomoments_dagster.models.server import ModelServer
from videomoments_dagster.settings import get_settings

_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What a good answer would be, for faults that spoil it on its way."""

    handler: BaseHTTPRequestHandler
    status: int
    body: bytes
    closing: threading.Event

    def send(self, body: bytes | None = None, status: int | None = None, **headers: str) -> None:
        content = self.body if body is None else body
        self.handler.send_response(status or self.status)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(content))} | given).items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(content)

    def hang_up(self) -> None:
        self.handler.close_connection = True
        self.handler.connection.shutdown(socket.SHUT_RDWR)


Fault = Callable[[Reply], None]


def well() -> Fault:
    """No fault: for scripts in which a good answer comes between."""
    return lambda reply: reply.send()


def slow(seconds: float) -> Fault:
    """The right answer, late."""

    def answer(reply: Reply) -> None:
        reply.closing.wait(seconds)
        reply.send()

    return answer


def refuses(status: int, body: Any = None, **headers: str) -> Fault:
    """Any status, with OpenAI's error shape around a text, or another body as JSON; `Retry_After="1"` is a header."""
    shaped = {"error": {"message": body, "type": "stub"}} if isinstance(body, str) else body
    return lambda reply: reply.send(b"" if body is None else json.dumps(shaped).encode(), status, **headers)


def hangs() -> Fault:
    """Takes the request and never answers."""

    def answer(reply: Reply) -> None:
        reply.closing.wait()

    return answer


def hangs_up() -> Fault:
    """Closes the connection without a word."""
    return lambda reply: reply.hang_up()


def cut_half_way() -> Fault:
    """Half of the body it promised, then nothing more."""

    def answer(reply: Reply) -> None:
        reply.send(reply.body[: len(reply.body) // 2], Content_Length=str(len(reply.body)))
        reply.handler.wfile.flush()
        reply.hang_up()

    return answer


def drips(pause_seconds: float) -> Fault:
    """The right answer, a byte at a time."""

    def answer(reply: Reply) -> None:
        reply.send(b"", Content_Length=str(len(reply.body)))
        for byte in reply.body:
            if reply.closing.wait(pause_seconds):
                return
            reply.handler.wfile.write(bytes([byte]))

    return answer


def says_body(body: bytes, content_type: str = "application/json") -> Fault:
    """These bytes, and status 200."""
    return lambda reply: reply.send(body, Content_Type=content_type)


def redirects(url: str) -> Fault:
    return lambda reply: reply.send(b"", 307, Location=url)


def huge(size_bytes: int) -> Fault:
    """A JSON text of so many bytes, chunked: its size is not said beforehand."""

    def answer(reply: Reply) -> None:
        reply.handler.send_response(200)
        reply.handler.send_header("Transfer-Encoding", "chunked")
        reply.handler.end_headers()
        left, block = size_bytes, b" " * _BLOCK_BYTES
        while left > 0 and not reply.closing.is_set():
            piece = block[:left]
            reply.handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            left -= len(piece)
        reply.handler.wfile.write(b"0\r\n\r\n")

    return answer


class StubServer:
    """A threaded HTTP/1.1 server with kept connections. `connections` counts those that were opened;
    `listing_fault` is what becomes of each GET, `fault` of each POST that has none of its own."""

    kind = "chat"

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.closing = threading.Event()
        self.listing_fault: Fault | None = None
        self.fault: Fault | None = None
        self._script: deque[Fault] = deque()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self._handler())
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        if tls:  # the handshake is left to the connection's thread
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self.url = f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def entry(self, **fields: Any) -> ModelEntry:
        """A registry entry that leads here, named `stub` unless `fields` say otherwise."""
        return ModelEntry.parse(fields.pop("key", "stub"), {"kind": self.kind, "base_url": self.url} | fields)

    def server(self, **fields: Any) -> ModelServer:
        """A client's server for that entry, which waits 10 ms before it asks again."""
        return ModelServer(self.entry(**fields), get_settings(), retries=Retries(base_seconds=0.01))

    def script(self, *faults: Fault) -> None:
        """The faults of the next requests, one each; added to those that are left."""
        self._script.extend(faults)

    def respond(self, handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        """Status and body of the right answer to a request, which is read to its end."""
        raise NotImplementedError

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        status, body = self.respond(handler)
        with self._lock:
            scripted = self._script and handler.command == "POST"
            usual = (self.listing_fault if handler.command == "GET" else self.fault) or well()
            fault = self._script.popleft() if scripted else usual
        with suppress(ConnectionError):
            fault(Reply(handler, status, body, self.closing))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with stub._lock:
                    stub.connections += 1
                    stub._open.add(self.connection)

            def handle(self) -> None:
                with suppress(ConnectionError, ssl.SSLError):
                    super().handle()

            def finish(self) -> None:
                with stub._lock:
                    stub._open.discard(self.connection)
                with suppress(OSError):
                    super().finish()

            def do_GET(self) -> None:
                stub._answer(self)

            def do_POST(self) -> None:
                stub._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


@dataclass(frozen=True, slots=True)
class ChatRequest:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer with more than its text: what is None is left out, `content=None` is null."""

    content: str | list[dict[str, Any]] | None
    finish_reason: str = "stop"
    reasoning: dict[str, str] | None = None
    usage: dict[str, Any] | None = None


class ChatStub(StubServer):
    """`/v1/chat/completions` and `/v1/models`. `answer` is given the decoded request and returns text or Completion.

    `unknown` are fields it refuses with 400 and their name, with `json_schema` and `json_object` for the two formats.
    Usage counts words: of the messages' text, and of the answer.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], "str | Completion"],
        *,
        unknown: Sequence[str] = (),
        models: Sequence[str] = ("stub-model",),
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(port, tls)
        self.answer, self.unknown, self.models = answer, set(unknown), list(models)
        self.requests: list[ChatRequest] = []
        self.listings = 0

    def respond(self, handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        if handler.command == "GET":
            self.listings += 1
            return 200, json.dumps({"object": "list", "data": [{"id": name} for name in self.models]}).encode()
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.requests.append(ChatRequest(handler.path, dict(handler.headers), body))
        refused = self.unknown & {*body, body.get("response_format", {}).get("type")}
        if refused:
            message = f"{min(refused)} is not supported by this model."
            return 400, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
        return 200, json.dumps(self._completion(body)).encode()

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.answer(body)
        said = Completion(answer) if isinstance(answer, str) else answer
        usage = {"prompt_tokens": len(text_of(body).split()), "completion_tokens": len(str(said.content).split())}
        message = {"role": "assistant", "content": said.content, **(said.reasoning or {})}
        choice = {"index": 0, "message": message, "finish_reason": said.finish_reason}
        return {"object": "chat.completion", "choices": [choice], "usage": said.usage or usage}


def text_of(body: dict[str, Any]) -> str:
    """All text of a request's messages."""
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return "\n".join([c for c in contents if isinstance(c, str)] + [p["text"] for p in parts if p["type"] == "text"])


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """An upload as it came: the part's name, file name and type, and the file's size and SHA-256."""

    path: str
    headers: dict[str, str]
    field: str
    file_name: str
    content_type: str
    size_bytes: int
    sha256: str


class SpeechStub(StubServer):
    """`/transcribe`. `answer` is given the uploaded file's path, which is gone afterwards, and returns the answer.

    It lets an upload wait for `pause_seconds` before it reads it.
    """

    kind = "speech"

    def __init__(self, answer: Callable[[Path], dict[str, Any]], *, pause_seconds: float = 0.0, port: int = 0) -> None:
        super().__init__(port)
        self.answer, self.pause_seconds = answer, pause_seconds
        self.requests: list[SpeechRequest] = []

    def respond(self, handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        self.closing.wait(self.pause_seconds)
        boundary = handler.headers["Content-Type"].partition("boundary=")[2].encode()
        left = int(handler.headers["Content-Length"])
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += handler.rfile.readline()
        tail = b"\r\n--" + boundary + b"--\r\n"
        left -= len(head) + len(tail)
        size_bytes, digest = left, hashlib.sha256()
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            while left:
                block = handler.rfile.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise ConnectionResetError
                digest.update(block)
                file.write(block)
                left -= len(block)
            file.flush()
            if handler.rfile.read(len(tail)) != tail:
                return 422, json.dumps({"detail": "one part, named file, is expected"}).encode()
            name, file_name = re.findall(rb'name="([^"]*)"', head)
            kind = re.search(rb"Content-Type: (\S+)", head)
            self.requests.append(
                SpeechRequest(
                    handler.path,
                    dict(handler.headers),
                    name.decode(),
                    file_name.decode(),
                    kind[1].decode() if kind else "",
                    size_bytes,
                    digest.hexdigest(),
                )
            )
            return 200, json.dumps(self.answer(Path(file.name))).encode()


Timed = tuple[str, float, float]


def heard(words: Sequence[Timed], segments: Sequence[Timed] = (), **more: Any) -> dict[str, Any]:
    """A speech server's answer from (text, start, end) with seconds, in the shape of `/transcribe`."""
    return {
        "transcription": " ".join(text for text, _, _ in segments or words),
        "word_timestamps": [{"word": text, "start": start, "end": end} for text, start, end in words],
        "segment_timestamps": [{"segment": text, "start": start, "end": end} for text, start, end in segments],
        "processing_time": 0.5,
        **more,
    }
