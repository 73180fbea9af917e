"""HTTP as a person with curl would speak it: one request, one response, nothing normalised on the way."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Response:
    """What came back; header names in lower case, in the order they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    def all_headers(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def echo(self) -> dict[str, Any]:
        """What the upstream says it was sent."""
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def sent(self) -> dict[str, str]:
        """The headers that the upstream was sent; the last one wins where a name repeats."""
        return dict(self.echo["headers"])


def request(
    port: int,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    timeout: float = 60,
) -> Response:
    """Sends exactly this to 127.0.0.1:`port`; `host` is added unless it is among the headers, and the body's length."""
    headers = list(headers)
    named = {name.lower() for name, _ in headers}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.putrequest(method, path, skip_host="host" in named, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value.encode("latin-1"))
        if body and "content-length" not in named:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
        return Response(answer.status, tuple((name.lower(), value) for name, value in answer.getheaders()), content)
    finally:
        connection.close()
