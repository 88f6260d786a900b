"""A file on a `tests.web.Web` as a good video server has it: validators, ranges, conditions; and its bytes counted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

from tests.web import Web

_BLOCK_BYTES = 64 * 1024


@dataclass
class RangedFile:
    """Call `serve`. `sent_bytes` counts the bodies over all requests, `asked` has the headers that count.

    `before_block` is called with the number of bytes that this answer has sent, before each block of it; when it
    returns False the connection ends there.
    """

    content: bytes
    etag: str | None = '"v1"'
    modified_seconds_ago: float | None = None
    knows_conditions: bool = True
    says_length: bool = True
    before_block: Callable[[int], bool] = lambda sent: True
    sent_bytes: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    _now: float = 1_700_000_000.0

    def serve(self, web: Web, path: str) -> str:
        """Returns the URL."""
        web.answers[path] = self._answer
        return web.url + path

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        given = request.headers
        names = ("Range", "If-Range", "If-None-Match", "If-Modified-Since")
        self.asked.append({name: given[name] for name in names if name in given})
        age = self.modified_seconds_ago
        modified = None if age is None else formatdate(self._now - age, usegmt=True)
        known = {each for each in (self.etag, modified) if each}
        if self.knows_conditions and known & {given["If-None-Match"], given["If-Modified-Since"]}:
            return self._send(request, 304, {})
        start = 0
        if "Range" in given and (not self.knows_conditions or given["If-Range"] in known):
            start = int(given["Range"].removeprefix("bytes=").removesuffix("-"))
        headers = {"Content-Type": "video/mp4"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        if self.says_length:
            headers["Content-Length"] = str(len(self.content) - start)
        self._send(request, 206 if start else 200, headers | ({"Last-Modified": modified} if modified else {}))
        sent = 0
        while start + sent < len(self.content) and self.before_block(sent):
            block = self.content[start + sent : start + sent + _BLOCK_BYTES]
            try:
                request.wfile.write(block)
            except OSError:  # nobody listens any more
                return None
            sent += len(block)
            self.sent_bytes += len(block)
        return None

    def _send(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.send_response_only(status)
        for name, value in {**({"ETag": self.etag} if self.etag else {}), **headers}.items():
            request.send_header(name, value)
        request.send_header("Date", formatdate(self._now, usegmt=True))
        request.end_headers()


def padded(mp4: bytes, size_bytes: int = 500_000) -> bytes:
    """The same video, with a box at its end that players skip."""
    return mp4 + size_bytes.to_bytes(4, "big") + b"free" + bytes(size_bytes - 8)
