"""A TCP service that sends back what it is sent."""

from __future__ import annotations

import socketserver


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Echo(socketserver.ThreadingTCPServer):
    """The service, on a free port."""

    allow_reuse_address = True
    block_on_close = False
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self.server_address[1])
