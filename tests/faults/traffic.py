"""A steady stream of requests through Envoy while faults come and go: what was asked, when, and how it ended."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Self

from tests.parts.http_client import request

OK = 200
_LANES = 4
_TIMEOUT = 30.0
_HEADERS = (("x-tenant", "soak"),)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request.

    Attributes:
        at: seconds of `time.monotonic` when it was sent.
        seconds: until its answer.
        status: 0 when there was none.
        request_id: as Envoy told it; empty when it did not.
    """

    at: float
    seconds: float
    status: int
    request_id: str

    @property
    def failed(self) -> bool:
        """It did not pass."""
        return self.status != OK


class Traffic:
    """So many requests a second, by a few threads, until the end of its `with`."""

    def __init__(self, port: int, rate: int) -> None:
        self._port = port
        self._pause = _LANES / rate
        self._stop = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._sent: list[Sent] = []
        self._lock = threading.Lock()
        self._under_way = 0
        self._threads = [threading.Thread(target=self._send, args=(lane,)) for lane in range(_LANES)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._going.set()
        for thread in self._threads:
            thread.join()

    def since(self, moment: float) -> list[Sent]:
        """What was sent at that moment or later, and has ended."""
        with self._lock:
            return [one for one in self._sent if one.at >= moment]

    def hold(self) -> None:
        """Sends nothing until `go_on`; returns when nothing is under way."""
        self._going.clear()
        end = time.monotonic() + 2 * _TIMEOUT
        while time.monotonic() < end and self._under_way:
            time.sleep(0.05)

    def go_on(self) -> None:
        """Ends `hold`."""
        self._going.set()

    def _send(self, lane: int) -> None:
        begun = time.monotonic() + lane * self._pause / _LANES
        for number in itertools.count():
            if self._stop.wait(max(0.0, begun + number * self._pause - time.monotonic())):
                return
            self._going.wait()
            with self._lock:
                self._under_way += 1
            at = time.monotonic()
            try:
                answer = request(self._port, f"/reviews/{lane}/{number}", headers=_HEADERS, timeout=_TIMEOUT)
                status, request_id = answer.status, answer.header("x-request-id") or ""
            except (OSError, HTTPException):
                status, request_id = 0, ""
            with self._lock:
                self._under_way -= 1
                self._sent.append(Sent(at, time.monotonic() - at, status, request_id))
            if at - begun - number * self._pause > 1.0:  # late by a second: go on from now rather than catch up
                begun = at - number * self._pause
