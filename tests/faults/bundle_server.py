"""A server of one bundle that is away, hangs or talks nonsense when told to."""

from __future__ import annotations

import io
import itertools
import tarfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


class BundleServer:
    """Serves what is in a folder as a bundle archive.

    Attributes:
        behaviour: `good`, `error` (500), `hang`, `slow` (a byte in a tenth of a second), `nonsense` (a page), `cut`
            (half of it), or `endless`.
    """

    def __init__(self, folder: Path) -> None:
        self.behaviour = "good"
        self._folder = folder
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def answer(self, handler: Any) -> None:
        """Answers one look."""
        behaviour = self.behaviour
        if behaviour == "hang":
            time.sleep(3.0)
            return
        content = b"<html>log in</html>" if behaviour == "nonsense" else self._archive()
        handler.send_response(500 if behaviour == "error" else 200)
        if behaviour != "endless":
            handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        with suppress(OSError):  # whoever asked may have given up
            if behaviour in {"slow", "endless"}:
                self._drag_on(handler, content, behaviour)
            else:
                handler.wfile.write(content[: len(content) // 2] if behaviour == "cut" else content)

    def _drag_on(self, handler: Any, content: bytes, behaviour: str) -> None:
        """Sends byte by byte, or block after block, as long as it is to and somebody reads."""
        endless = behaviour == "endless"
        blocks = itertools.repeat(content * 64) if endless else (bytes((byte,)) for byte in content)
        for block in blocks:
            if self.behaviour != behaviour:
                return
            handler.wfile.write(block)
            handler.wfile.flush()
            time.sleep(0.001 if endless else 0.1)

    def _archive(self) -> bytes:
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w:gz") as archive:
            for file in sorted(self._folder.rglob("*.rego")):
                archive.add(file, str(file.relative_to(self._folder)))
        return held.getvalue()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
