"""Checks over raw HTTP/2 in a process of its own: at a rate that nothing slows down, or as many as are answered.

    python benchmarks/surge.py HOST:PORT SECONDS --rate 5000 [--breaker 256]
    python benchmarks/surge.py HOST:PORT SECONDS --in-flight 64

At a rate (an open loop) each call has its moment, and its latency counts from there. Like Envoy the client gives a call
up when its time is over, keeps within the streams and windows that the server grants, and keeps its connections. A call
costs it some microseconds, because every request is the same bytes: a client of gRPC would be slower than the server.
Loopback only; a run ends after its seconds. Figures as JSON on stdout. Not for: other methods than checks.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from hpack import Decoder
from load import percentiles
from payloads import CHECK_METHOD, check_request

CONNECTIONS: Final = 8
PATIENCE: Final = 0.25
"""Seconds after which a caller gives up, as in deploy/envoy/envoy.yaml."""
_LONG_PATIENCE: Final = 60.0
"""The same in a closed loop, which takes what the server gives."""
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_CANCEL: Final = 8
_MOST_STREAMS, _FIRST_WINDOW = 3, 4
_FRAME: Final = struct.Struct(">BHBBI")
_WINDOW: Final = (1 << 31) - 1
_HTTP2_WINDOW: Final = 65_535
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STEP: Final = 0.0005
OK: Final = "OK"
GIVEN_UP: Final = "given up by the caller"
BROKEN: Final = "refused by the caller's circuit breaker"
CUT_OFF: Final = "lost with its connection"
_NAMES: Final = {"0": OK, "1": "CANCELLED", "4": "DEADLINE_EXCEEDED", "8": "RESOURCE_EXHAUSTED", "14": "UNAVAILABLE"}
REFUSED: Final = ("UNAVAILABLE", "CANCELLED", "REFUSED_STREAM")
"""How mixer says, or gRPC and Envoy for it, that too many calls wait."""
_RESET: Final = {7: "REFUSED_STREAM", 8: "CANCELLED"}


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _block(headers: dict[str, str]) -> bytes:
    """Headers as literals that no table remembers (RFC 7541 section 6.2.2), so that a block is always the same."""
    texts = ((name.encode(), value.encode()) for name, value in headers.items())
    return b"".join(b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in texts)


@dataclass
class Ended:
    """What became of the calls.

    Attributes:
        latency: milliseconds from a call's moment to its end, by how it ended.
    """

    latency: dict[str, list[float]] = field(default_factory=dict)

    def add(self, how: str, seconds: float) -> None:
        """One call has ended."""
        self.latency.setdefault(how, []).append(seconds * 1e3)


class _Connection:
    """One connection, and the calls that are to be sent or answered on it."""

    def __init__(self, address: str, ended: Ended, polled: select.epoll, breaker: int, patience: float) -> None:
        self._breaker = breaker
        self._patience = patience
        self._address = address
        self._polled = polled
        body = check_request()
        timeout = f"{patience * 1e3:.0f}m"
        self._headers = _block(
            {":method": "POST", ":scheme": "http", ":path": CHECK_METHOD, ":authority": address, "te": "trailers",
             "content-type": "application/grpc", "grpc-timeout": timeout}
        )  # fmt: skip
        self._body = b"\0" + len(body).to_bytes(4, "big") + body
        self.waiting: deque[float] = deque()
        self.open: dict[int, float] = {}
        self._ended = ended
        self._statuses: dict[bytes, str] = {}
        self.connect()

    def connect(self) -> None:
        """Begins anew."""
        host, _, port = self._address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._polled.register(self.sock, select.EPOLLIN)
        self._stream = 1
        self._most, self._window = 100, _HTTP2_WINDOW
        self._read = b""
        settings = struct.pack(">HIHI", 1, 0, _FIRST_WINDOW, _WINDOW)  # no table of headers; all that comes is read
        self._out = bytearray(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
        self._out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW - _HTTP2_WINDOW))
        self.sock.setblocking(False)  # noqa: FBT003 (socket's own)

    def send(self, now: float) -> None:
        """Gives up what has waited too long, then sends what the server has room for."""
        for stream, moment in self.open.items():
            if now - moment <= self._patience:
                break
            self._ended.add(GIVEN_UP, now - moment)
            self._out += _frame(_RST_STREAM, 0, stream, struct.pack(">I", _CANCEL))
        while self.open and now - next(iter(self.open.values())) > self._patience:
            del self.open[next(iter(self.open))]
        while self.waiting and now - self.waiting[0] > self._patience:
            self._ended.add(GIVEN_UP, now - self.waiting.popleft())
        while self._breaker and self.waiting and len(self.open) >= self._breaker:
            self._ended.add(BROKEN, now - self.waiting.popleft())
        while self.waiting and len(self.open) < self._most and self._window >= len(self._body):
            self.open[self._stream] = self.waiting.popleft()
            self._out += _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            self._out += _frame(_DATA, _END_STREAM, self._stream, self._body)
            self._window -= len(self._body)
            self._stream += 2
        if self._out:
            with suppress(BlockingIOError, ConnectionError):  # what came before its end is still to be read
                del self._out[: self.sock.send(self._out)]

    def receive(self, now: float) -> None:
        """Reads what has come; where the server has ended the connection, its calls are lost, and there is another."""
        try:
            came = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            came = b""
        if not came:
            self._lose(now)
            return
        data, at = self._read + came, 0
        while len(data) - at >= _FRAME.size:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + (high << 16 | low)
            if end > len(data):
                break
            self._take(kind, flags, stream, data[at + _FRAME.size : end], now)
            at = end
        self._read = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        if kind == _HEADERS and flags & _END_STREAM:
            self._end(stream, self._status(payload), now)
        elif kind == _RST_STREAM:
            code = int.from_bytes(payload, "big")
            self._end(stream, _RESET.get(code, f"reset {code}"), now)
        elif kind == _WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(payload, "big")
        elif kind == _PING and not flags & _ACK:
            self._out += _frame(_PING, _ACK, 0, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _MOST_STREAMS:
                    self._most = value
            self._out += _frame(_SETTINGS, _ACK, 0, b"")

    def _lose(self, now: float) -> None:
        for moment in self.open.values():
            self._ended.add(CUT_OFF, now - moment)
        self.open.clear()
        self._polled.unregister(self.sock)
        self.sock.close()
        self.connect()

    def _end(self, stream: int, how: str, now: float) -> None:
        moment = self.open.pop(stream, None)
        if moment is not None:
            self._ended.add(how, now - moment)

    def _status(self, block: bytes) -> str:
        how = self._statuses.get(block)
        if how is None:
            headers = dict(Decoder().decode(block))
            status = headers.get("grpc-status", "none")
            how = self._statuses[block] = _NAMES.get(status, f"status {status}")
        return how


def surge(
    address: str, seconds: float, *, rate: float = 0.0, in_flight: int = 0, breaker: int = 0
) -> tuple[int, Ended, float]:
    """Calls at a rate, or so many at a time; how many, what became of them, and the seconds that it took.

    Args:
        address: of the server.
        seconds: for which calls are sent.
        rate: calls a second; 0 for the other way.
        in_flight: how many at a time.
        breaker: calls that may be open at a time, above which the caller refuses by itself, as Envoy does by the
            circuit breaker `max_requests` of a cluster; 0 for any number.
    """
    ended, polled, patience = Ended(), select.epoll(), PATIENCE if rate else _LONG_PATIENCE
    connections = [_Connection(address, ended, polled, breaker // CONNECTIONS, patience) for _ in range(CONNECTIONS)]
    start, sent = time.monotonic(), 0
    while True:
        now = time.monotonic()
        if now - start < seconds:
            missing = in_flight - sum(len(one.open) + len(one.waiting) for one in connections)
            due = int((now - start) * rate) if rate else sent + missing
            for number in range(sent, due):
                connections[number % CONNECTIONS].waiting.append(start + number / rate if rate else now)
            sent = max(sent, due)
        elif not any(connection.open or connection.waiting for connection in connections):
            break
        for connection in connections:
            connection.send(now)
        came = {number for number, _ in polled.poll(_STEP)}
        for connection in connections:
            if connection.sock.fileno() in came:
                connection.receive(time.monotonic())
    took = time.monotonic() - start
    for connection in connections:
        connection.sock.close()
    return sent, ended, took


def main() -> None:
    """Sends, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("address")
    parser.add_argument("seconds", type=float)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--rate", type=float, default=0.0, help="calls a second")
    how.add_argument("--in-flight", type=int, default=0, help="calls at a time")
    parser.add_argument("--breaker", type=int, default=0, help="calls that the caller lets be open at a time")
    options = parser.parse_args()
    if not options.address.startswith("127."):
        raise SystemExit(f"{options.address} is not a loopback address")
    begun = time.process_time()
    sent, ended, took = surge(
        options.address, options.seconds, rate=options.rate, in_flight=options.in_flight, breaker=options.breaker
    )
    refused = [one for how in REFUSED for one in ended.latency.get(how, ())]
    told = {
        "sent": sent,
        "seconds": took,
        "cpu": (time.process_time() - begun) / took,
        "ended": Counter({how: len(found) for how, found in ended.latency.items()}),
        "latency": {how: percentiles(found) for how, found in ended.latency.items()},
        "refused": percentiles(refused) if refused else {},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
