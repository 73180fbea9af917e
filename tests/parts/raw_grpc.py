"""gRPC seen from the wire: the frames of HTTP/2 that a server sends, which a client of gRPC would interpret or hide.

Not for: whether answers are right. What is sent here may be anything but good manners, so nothing is checked on its
way out.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

SECONDS = 60.0
"""How long an answer may take on a slow machine."""

_WINDOW = (1 << 31) - 1 - 65_535
_MOST_DATA = 16_384
Headers = Sequence[tuple[str, str]]


class ConnectionGoneError(Exception):
    """The server has ended the connection."""


def message(body: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A message in gRPC's frame (grpc/grpc doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message), which may lie."""
    return struct.pack(">BI", compressed, len(body) if length is None else length) + body


@dataclass(slots=True)
class Reply:
    """What came on one stream.

    Attributes:
        headers: of the answer, as they came; `:status` among them.
        trailers: the same of the trailers. An answer of trailers only has them as headers (`is_trailers_only`).
        body: of all DATA frames.
        ended: END_STREAM was seen.
        reset: the code of RST_STREAM (RFC 9113 section 7); None without one.
    """

    headers: Headers = ()
    trailers: Headers = ()
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def is_over(self) -> bool:
        """Nothing more comes."""
        return self.ended or self.reset is not None

    @property
    def http_status(self) -> int | None:
        """The `:status`."""
        found = self._find(":status")
        return None if found is None else int(found)

    @property
    def status(self) -> int | None:
        """The `grpc-status`, from wherever it stands; None when there is none."""
        found = self._find("grpc-status")
        return None if found is None else int(found)

    @property
    def details(self) -> str:
        """The `grpc-message`, decoded."""
        return unquote(self._find("grpc-message") or "")

    @property
    def messages(self) -> list[bytes]:
        """The messages of the body; an assertion fails where it is not made of whole frames."""
        found, rest = [], self.body
        while rest:
            _, length = struct.unpack(">BI", rest[:5])
            assert len(rest) >= 5 + length, f"a frame of {length} bytes is cut: {self.body!r}"
            found.append(rest[5 : 5 + length])
            rest = rest[5 + length :]
        return found

    @property
    def reads_as_success(self) -> bool:
        """Whether some client could take it for an answer: OK, and not cut off."""
        return self.status == 0 or (self.status is None and self.ended and self.http_status == 200)

    def header(self, name: str) -> str | None:
        """The last value of a header or trailer."""
        return self._find(name)

    def _find(self, name: str) -> str | None:
        return next((value for key, value in (*reversed(self.trailers), *reversed(self.headers)) if key == name), None)


@dataclass
class RawConnection:
    """One connection, driven frame by frame.

    Attributes:
        replies: by stream.
        goaway: the error code with which the server ended the connection; None while it has not.
    """

    sock: socket.socket
    authority: str
    replies: dict[int, Reply] = field(default_factory=dict)
    goaway: int | None = None
    _gone: bool = False
    _settled: bool = False

    def __post_init__(self) -> None:
        self.h2 = H2Connection(
            H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
                            normalize_outbound_headers=False, validate_inbound_headers=False)
        )  # fmt: skip

    def greet(self, *, window: int | None = None) -> None:
        """Sends the preface and waits for the server's settings.

        Args:
            window: bytes of each stream that the server may send before it is given more; left out, all it wants to.
        """
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_WINDOW)
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: (1 << 31) - 1 if window is None else window})
        self._flush()
        self.until(lambda: self._settled)

    @property
    def max_streams(self) -> int:
        """Streams that the server lets this connection have at once (SETTINGS_MAX_CONCURRENT_STREAMS)."""
        return self.h2.remote_settings.max_concurrent_streams

    @property
    def max_header_bytes(self) -> int | None:
        """The size of a list of headers that the server says it takes (SETTINGS_MAX_HEADER_LIST_SIZE)."""
        return self.h2.remote_settings.max_header_list_size

    @property
    def is_gone(self) -> bool:
        """The server has closed the connection."""
        return self._gone

    def open(self, path: str, *, extra: Iterable[tuple[str, str]] = (), without: Iterable[str] = (), end: bool = False,
             **changed: str) -> int:  # fmt: skip
        """Sends the headers of a call.

        Args:
            path: `/package.Service/Method`.
            extra: further headers.
            without: names of usual headers that are left out.
            end: half-closes at once.
            changed: usual headers with another value, `-` written as `_`: `content_type`, `method`, `te`.

        Returns:
            The stream.
        """
        usual = {
            ":method": changed.get("method", "POST"),
            ":scheme": "https" if isinstance(self.sock, ssl.SSLSocket) else "http",
            ":path": path,
            ":authority": self.authority,
            "te": changed.get("te", "trailers"),
            "content-type": changed.get("content_type", "application/grpc"),
        }
        headers = [(name, value) for name, value in usual.items() if name not in without]
        stream = self.h2.get_next_available_stream_id()
        self.replies[stream] = Reply()
        self.h2.send_headers(stream, [*headers, *extra], end_stream=end)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Sends DATA, as far as the server reads it; stops early when the server ends the stream meanwhile."""
        while True:
            room = 0
            while not self.replies[stream].is_over and not (room := self._room(stream)) and data:
                self._read()
            if self.replies[stream].is_over:
                return
            part, data = data[:room], data[room:]
            self.h2.send_data(stream, part, end_stream=end and not data)
            self._flush()
            if not data:
                return

    def reset(self, stream: int, code: int = 8) -> None:
        """Gives a call up; the code is CANCEL unless another is given."""
        self.h2.reset_stream(stream, code)
        self._flush()

    def call(self, path: str, *messages: bytes, seconds: float = SECONDS, extra: Iterable[tuple[str, str]] = (),
             without: Iterable[str] = (), **changed: str) -> Reply:  # fmt: skip
        """One call from its start to the end of its answer; the messages are those of `message`, or other bytes."""
        stream = self.open(path, extra=extra, without=without, end=not messages, **changed)
        for number, one in enumerate(messages, start=1):
            self.send(stream, one, end=number == len(messages))
        return self.reply(stream, seconds)

    def reply(self, stream: int, seconds: float = SECONDS) -> Reply:
        """The whole answer of a stream; an assertion fails when it does not end in time."""
        reply = self.replies[stream]
        self.until(lambda: reply.is_over, seconds)
        return reply

    def until(self, arrived: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Reads until something has arrived."""
        end = time.monotonic() + seconds
        while not arrived():
            left = end - time.monotonic()
            assert left > 0, f"not within {seconds:g} s; until then came {list(self.replies.values())[-1:]}"
            self._read(left)

    def give_window(self, stream: int, size: int) -> None:
        """Lets the server send more bytes on a stream."""
        self.h2.increment_flow_control_window(size, stream)
        self._flush()

    def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are, which may be no HTTP/2 at all."""
        self.sock.sendall(data)

    def close(self) -> None:
        """Drops the connection without a word."""
        self.sock.close()

    def _room(self, stream: int) -> int:
        return min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, _MOST_DATA)

    def _flush(self) -> None:
        # What it said is still to be read; and over TLS a write after one that failed fails in yet another way.
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.sock.sendall(self.h2.data_to_send())

    def _read(self, seconds: float = SECONDS) -> None:
        self.sock.settimeout(max(seconds, 0.001))
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        if not data:
            self._gone = True
            raise ConnectionGoneError(f"the server has closed the connection; it said GOAWAY {self.goaway}")
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:
            raise ConnectionGoneError(f"the server sent what is no HTTP/2: {error}") from error
        for event in events:
            self._take(event)
        self._flush()

    def _take(self, event: Event) -> None:
        match event:
            case RemoteSettingsChanged():
                self._settled = True
            case ResponseReceived():
                self.replies[event.stream_id].headers = event.headers
            case TrailersReceived():
                self.replies[event.stream_id].trailers = event.headers
            case DataReceived():
                self.replies[event.stream_id].body += event.data
            case StreamEnded():
                self.replies[event.stream_id].ended = True
            case StreamReset():
                self.replies[event.stream_id].reset = int(event.error_code or 0)
            case ConnectionTerminated():
                self.goaway = int(event.error_code or 0)
            case _:
                pass


def dial(address: str, *, tls: ssl.SSLContext | None = None, seconds: float = SECONDS) -> RawConnection:
    """A connection on which nothing was said yet, but for the handshake of TLS.

    Args:
        address: `host:port` or `unix:///path`.
        tls: what is spoken there; None for plaintext.
        seconds: how long it may take.
    """
    if address.startswith("unix://"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(seconds)
        try:
            sock.connect(address.removeprefix("unix://"))
        except OSError:
            sock.close()
            raise
        return RawConnection(sock, "localhost")
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return RawConnection(sock if tls is None else tls.wrap_socket(sock, server_hostname=host), address)


@contextmanager
def raw(address: str, *, window: int | None = None, tls: ssl.SSLContext | None = None) -> Iterator[RawConnection]:
    """A connection that was greeted; closed at the end."""
    connection = dial(address, tls=tls)
    try:
        connection.greet(window=window)
        yield connection
    finally:
        connection.close()
