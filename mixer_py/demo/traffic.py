"""Three callers and what they ask for. What becomes of a request is not known here: Envoy and mixer decide."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
from dataclasses import dataclass

_TIMEOUT_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who sends requests.

    Attributes:
        name: as people call them.
        password: for HTTP Basic; None sends no token.
        about: one line for the screen.
    """

    name: str
    password: str | None
    about: str

    @property
    def headers(self) -> dict[str, str]:
        """What this caller adds to each request."""
        if self.password is None:
            return {}
        token = base64.b64encode(f"{self.name}:{self.password}".encode()).decode()
        return {"authorization": f"Basic {token}"}


ALICE = Caller("alice", "wonderland", "admin of tenant acme, which has 5 reviews a minute")
BOB = Caller("bob", "builder", "guest of tenant globex")
STRANGER = Caller("stranger", None, "has no token")
CALLERS = (ALICE, BOB, STRANGER)


@dataclass(frozen=True, slots=True)
class Step:
    """One request to send, and why the demo sends it."""

    caller: Caller
    method: str
    path: str
    why: str

    @property
    def host(self) -> str:
        """The service that is asked for. Envoy's log names no upstream for a request that it refused; its host does."""
        return self.path.split("/")[1]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response, as the caller saw them.

    Attributes:
        step: what was sent.
        status: HTTP status code.
        request_id: Envoy's `x-request-id`, by which the row is found.
        said: the response's body where it is text, else empty.
    """

    step: Step
    status: int
    request_id: str
    said: str


ROUND = (
    Step(ALICE, "GET", "/reviews/1", "an admin reads"),
    Step(BOB, "GET", "/ratings/1", "a guest reads"),
    Step(BOB, "DELETE", "/reviews/1", "a guest may not delete"),
    Step(STRANGER, "GET", "/reviews/1", "no token, no entry"),
    Step(ALICE, "DELETE", "/reviews/2", "an admin may delete"),
    Step(ALICE, "GET", "/ratings/broken", "allowed, but the service breaks down"),
)
"""One of each, but for the limit."""

BEYOND_LIMIT = Step(ALICE, "GET", "/reviews/1", "again, until acme's minute is used up")


async def send(port: int, step: Step) -> Exchange:
    """Sends one request to 127.0.0.1:`port`.

    Raises:
        OSError: nothing answers there.
    """
    return await asyncio.to_thread(_send, port, step)


def _send(port: int, step: Step) -> Exchange:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(step.method, step.path, headers={"host": step.host, **step.caller.headers})
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace").strip()
        return Exchange(step, response.status, response.getheader("x-request-id", ""), _plain(body))
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP response from Envoy: {error!r}") from error
    finally:
        connection.close()


def _plain(body: str) -> str:
    """Text for people: a service's JSON is of no interest here."""
    try:
        json.loads(body)
    except ValueError:
        return body.splitlines()[0] if body else ""
    return ""


def curl(port: int, step: Step) -> str:
    """The command line that sends the same request."""
    user = f" -u {step.caller.name}:{step.caller.password}" if step.caller.password else ""
    method = "" if step.method == "GET" else f" -X {step.method}"
    return f"curl -i{user} -H 'host: {step.host}'{method} http://127.0.0.1:{port}{step.path}"
