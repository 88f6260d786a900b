"""A small server that speaks the JSON API of Google Cloud Storage, with preconditions, MD5 checks and faults on
demand: what the public emulators leave out and our store relies on."""

import hashlib
import json
import re
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

BUCKET = "test-bucket"


class BucketServer(ThreadingHTTPServer):
    """`faults` maps 'METHOD path-start' to functions that answer instead, once each; `calls` is what was asked.
    `outage`, while it is set, answers every call. `before_answer` gets the asker's address and 'METHOD path', and may
    keep it waiting."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.host = host
        self.objects: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.sessions: dict[str, tuple[dict[str, Any], bytearray, str | None]] = {}
        self.faults: list[tuple[str, Callable[[_Handler], None]]] = []
        self.outage: Callable[[_Handler], None] | None = None
        self.calls: list[str] = []
        self.before_answer: Callable[[str, str], None] = lambda asker, call: None
        self.generation = 1000

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # who asked may be gone
            super().handle_error(request, client_address)

    def store(self, metadata: dict[str, Any], body: bytes) -> dict[str, Any]:
        self.generation += 1
        kept = {
            "bucket": BUCKET,
            "name": metadata["name"],
            "contentType": metadata.get("contentType", ""),
            "size": str(len(body)),
            "generation": str(self.generation),
            "timeCreated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "crc32c": b64encode(google_crc32c.Checksum(body).digest()).decode(),
            "md5Hash": b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
        }
        self.objects[metadata["name"]] = (kept, body)
        return kept


@contextmanager
def running(host: str = "127.0.0.1") -> Iterator[BucketServer]:
    with BucketServer(host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def answer_status(status: int, message: str = "on demand") -> "Callable[[_Handler], None]":
    return lambda handler: handler.answer(status, {"error": {"code": status, "message": message}})


def hang_up(handler: "_Handler") -> None:
    handler.close_connection = True
    handler.connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BucketServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if len(self.body) < length:  # who asked died half-way
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.server.calls.append(f"{self.command} {parts.path}")
        self.server.before_answer(self.client_address[0], f"{self.command} {unquote(parts.path)}")
        if outage := self.server.outage:
            outage(self)
            return
        for fault in list(self.server.faults):
            if f"{self.command} {parts.path}".startswith(fault[0]):
                self.server.faults.remove(fault)
                fault[1](self)
                return
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", parts.path)
        if not found:
            self.answer(404, {"error": {"code": 404, "message": "no such path"}})
        elif found[2] != BUCKET:
            self.answer(404, {"error": {"code": 404, "message": "The specified bucket does not exist."}})
        elif found[1] == "/upload":
            self._upload()
        else:
            self._object(unquote(found[3] or ""))

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _object(self, name: str) -> None:
        if not name:
            prefix = self.query.get("prefix", "")
            items = [kept for key, (kept, _) in sorted(self.server.objects.items()) if key.startswith(prefix)]
            return self.answer(200, {"kind": "storage#objects", "items": items})
        if name not in self.server.objects:
            return self.answer(404, {"error": {"code": 404, "message": f"No such object: {BUCKET}/{name}"}})
        kept, body = self.server.objects[name]
        if self.command == "DELETE":
            del self.server.objects[name]
            return self.answer(204)
        if self.query.get("alt") == "media":
            digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            return self.answer(200, body, {"Content-Type": kept["contentType"], "X-Goog-Hash": f"md5={digest}"})
        return self.answer(200, kept)

    def _upload(self) -> None:
        if self.query["uploadType"] == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            metadata, media = BytesParser().parsebytes(head + self.body).get_payload()  # pyright: ignore
            wanted = json.loads(metadata.get_payload(decode=True))  # pyright: ignore
            raw = self.body.split(b"\r\n\r\n", 2)[2].rsplit(b"\r\n--", 1)[0]
            return self._commit({**wanted, "contentType": media.get_content_type()}, raw, self.query)  # pyright: ignore
        if self.command == "POST":
            session = str(len(self.server.sessions))
            wanted = json.loads(self.body) | {"contentType": self.headers["X-Upload-Content-Type"]}
            self.server.sessions[session] = (wanted, bytearray(), self.query.get("ifGenerationMatch"))
            location = f"{self.server.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&upload_id={session}"
            return self.answer(200, {}, {"Location": location})
        wanted, received, precondition = self.server.sessions[self.query["upload_id"]]
        first, total = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", self.headers["Content-Range"]).groups()  # pyright: ignore
        if first is not None:
            del received[int(first) :]
            received.extend(self.body)
        if len(received) < int(total):
            return self.answer(308, None, {"Range": f"bytes=0-{len(received) - 1}"})
        query = {"ifGenerationMatch": precondition} if precondition is not None else {}
        return self._commit(wanted, bytes(received), query)

    def _commit(self, metadata: dict[str, Any], body: bytes, query: dict[str, str]) -> None:
        present = self.server.objects.get(metadata["name"])
        expected = query.get("ifGenerationMatch")
        if expected is not None and expected != (present[0]["generation"] if present else "0"):
            return self.answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
        digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        if metadata.get("md5Hash", digest) != digest:
            return self.answer(400, {"error": {"code": 400, "message": "Provided MD5 hash doesn't match"}})
        return self.answer(200, self.server.store(metadata, body))
