"""An HTTP service behind Envoy that answers with what it was sent."""

from __future__ import annotations

import http.server
import json
import socket
import struct
import time


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path.startswith("/break"):
            # A reset rather than an orderly end: Envoy reports an upstream failure.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        if self.path.startswith("/never"):
            self.rfile.read(1)  # until who asked goes away
            self.close_connection = True
            return
        if self.path.startswith("/slow"):
            time.sleep(1)
        answer = {
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": body.decode("latin-1"),
        }
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _answer  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Says nothing."""


class Upstream(http.server.ThreadingHTTPServer):
    """The service, on a free port."""

    block_on_close = False  # Envoy keeps its connections open
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self.server_address[1]
