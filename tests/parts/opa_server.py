"""A real OPA server as tests use it: started on local files or empty, asked over one kept-alive connection."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mixer_py.demo.processes import Ports, fetch
from tests.parts.presence import find_server
from tests.parts.programs import Programs


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine makes of an input document: a value, nothing (`undefined`), or an error."""

    kind: str
    value: object = None


class Opa:
    """A running OPA server.

    Attributes:
        port: where it answers, on 127.0.0.1.
    """

    def __init__(self, programs: Programs, ports: Ports, paths: Iterable[Path] = (), language: str = "v1") -> None:
        """Starts one that has read `paths`, rooting data documents as OPA does; modules are Rego `v0` or `v1`."""
        program = find_server("opa")
        assert program is not None
        self.port = ports.take()
        flags = ("--server", f"--addr=127.0.0.1:{self.port}", f"--{language}-compatible")
        quiet = ("--skip-version-check", "--log-level=error")
        self._programs = programs
        self._command: tuple[str | Path, ...] = (program, "run", *flags, *quiet, *paths)
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, at the same address as before; it holds what its files hold."""
        self._server = self._programs.start(f"opa-{self.port}", self._command)
        self._server.wait_until(self._is_up)
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._server.signal(number)

    def kill(self) -> None:
        """Ends it at once."""
        self._connection.close()
        self._server.kill()

    def _is_up(self) -> bool:
        try:
            return fetch(self.port, "/health")[0] == 200
        except OSError:
            return False

    def close(self) -> None:
        """Closes the connection; the server ends with its group of programs."""
        self._connection.close()

    def _call(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        self._connection.request(method, path, None if body is None else body.encode())
        response = self._connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else {}

    def _change(self, method: str, path: str, body: str | None = None) -> None:
        status, document = self._call(method, path, body)
        if status not in (200, 204):
            raise PolicyRefusedError(json.dumps(document))

    @contextmanager
    def holding(self, module: str, data: str) -> Iterator[None]:
        """Holds a module and a base document for a while.

        Raises:
            PolicyRefusedError: OPA does not compile them.
        """
        self._change("PUT", "/v1/data", data)
        try:
            self._change("PUT", "/v1/policies/policy.rego", module)
            try:
                yield
            finally:
                self._change("DELETE", "/v1/policies/policy.rego")
        finally:
            self._change("PUT", "/v1/data", "{}")

    def evaluate(self, decision: str, input_json: str) -> Answer:
        """What the rule at a path such as `envoy/authz/allow` is for an input document."""
        status, document = self._call("POST", f"/v1/data/{quote(decision)}", f'{{"input":{input_json}}}')
        if status != 200:
            assert status == 500, document
            return Answer("error")
        return Answer("value", document["result"]) if "result" in document else Answer("undefined")


class PolicyRefusedError(Exception):
    """OPA does not take a policy or its data."""
