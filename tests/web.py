"""A small HTTP server on loopback that serves files, and misbehaves on request. For tests and benchmarks."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """`url` without a trailing slash; `answers` by path; `hits` counts the requests of each path."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.answers: dict[str, Answer] = {}
        self.hits: dict[str, int] = {}
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self.url = f"http://{host}:{self._server.server_port}"

    def serve_file(self, path: str, file: Path, content_type: str = "video/mp4") -> str:
        """Serve `file` at `path`; returns its URL."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            content = file.read_bytes()
            request.send_response(200)
            request.send_header("Content-Type", content_type)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)

        self.answers[path] = answer
        return self.url + path

    def serve_status(self, path: str, *statuses: int) -> str:
        """Answer with `statuses` one after the other, the last one for ever; returns the URL."""
        left = list(statuses)

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(left.pop(0) if len(left) > 1 else left[0])
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.answers[path] = answer
        return self.url + path

    def run(self) -> threading.Thread:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                web.hits[path] = web.hits.get(path, 0) + 1
                answer = web.answers.get(path)
                if answer:
                    answer(self)
                else:
                    self.send_error(404)

            do_POST = do_GET  # noqa: N815  # the library's name

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        return Handler


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[Web]:
    web = Web(host)
    thread = web.run()
    try:
        yield web
    finally:
        web.close()
        thread.join()


@contextmanager
def swallowing() -> Iterator[tuple[str, int]]:
    """An address at which nothing answers, not even a refusal: its queue of connections is full."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()
