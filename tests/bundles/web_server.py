"""An HTTP server as bundles are fetched from it: ETags, failures, delays and redirects, as a test wants them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class Page:
    """What is served at one path.

    Attributes:
        body: its content.
        status: of the answer.
        headers: besides ETag and length.
        etag: whether one is sent, and honoured.
        delay: seconds before the body, and again in the middle of it.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: bool = True
    delay: float = 0.0


class WebServer(ThreadingHTTPServer):
    """Serves `pages`, and remembers what it was asked.

    Attributes:
        pages: by path; others are 404.
        asked: paths, and headers by their names in lower case.
        answers: statuses, in the same order.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: list[int] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, name="web")
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def tag(self, path: str) -> str:
        """The ETag of a path."""
        return f'"{hashlib.sha256(self.pages[path].body).hexdigest()[:16]}"'

    def handle_error(self, *_: object) -> None:
        """Nothing: a client that gives up in the middle is what some tests are about."""

    def end(self) -> None:
        """Ends it, and frees its port."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path, Page(status=404))
        tag = self.server.tag(self.path) if self.path in self.server.pages else '"none"'
        unchanged = page.etag and page.status == 200 and self.headers.get("If-None-Match") == tag
        status = 304 if unchanged else page.status
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.server.answers.append(status)
        time.sleep(page.delay)
        self.send_response(status)
        if page.etag:
            self.send_header("ETag", tag)
        for name, value in page.headers.items():
            self.send_header(name, value)
        body = b"" if unchanged else page.body
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        time.sleep(page.delay)
        self.wfile.write(body[half:])

    def log_message(self, *_: object) -> None:
        """Nothing: `asked` tells."""
