"""Where something listens: `host:port`, `[::1]:9091`, `unix:///path` or `internal://name`, parsed once.

Not for: binding, or asking DNS; a name is kept as it is written.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_MAX_UNIX_PATH = 102  # bytes of sockaddr_un.sun_path on Linux, without its final zero and a successor's mark
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^:\[\]/\s]*)):(\d{1,5})")
_UNIX = "unix://"
_INTERNAL = "internal://"
_INTERNAL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Address:
    """One address to listen on or to connect to.

    Attributes:
        host: name or IP address without brackets; empty unless it is TCP.
        port: 0 to 65535, where 0 lets the system choose; 0 unless it is TCP.
        path: absolute path of a unix socket; else empty.
        internal: name of an internal listener of the Envoy that mixer is in; else empty.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    internal: str = ""

    @property
    def is_tcp(self) -> bool:
        """Whether this is an address of the network."""
        return not self.path and not self.internal

    @property
    def is_unix(self) -> bool:
        """Whether this is a unix socket."""
        return bool(self.path)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than `localhost` counts as reachable."""
        if not self.is_tcp or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        """The text that `parse_address` reads back; also a gRPC target."""
        if self.path:
            return f"{_UNIX}{self.path}"
        if self.internal:
            return f"{_INTERNAL}{self.internal}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """The address that `value` writes.

    Raises:
        ValueError: it is none; the message says what is wrong and shows one that is right.
    """
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not an address; write host:port as in 127.0.0.1:9091")  # noqa: TRY004 (pydantic)
    if value.startswith("internal:"):
        return _parse_internal(value)
    return _parse_unix(value) if value.startswith("unix:") else _parse_tcp(value)


def _parse_unix(text: str) -> Address:
    path = text.removeprefix(_UNIX)
    if path == text or not path.startswith("/"):
        raise ValueError(f"{text!r} is not a unix socket; write an absolute path, as in unix:///run/mixer.sock")
    if "\0" in path or len(path.encode()) > _MAX_UNIX_PATH:
        raise ValueError(f"{text!r} is too long for a unix socket: at most {_MAX_UNIX_PATH} bytes of path")
    return Address(path=path)


def _parse_internal(text: str) -> Address:
    name = text.removeprefix(_INTERNAL)
    if name == text or _INTERNAL_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{text!r} is not an internal listener; write a name of letters, digits, _ and -, as in internal://mixer"
        )
    return Address(internal=name)


def _parse_tcp(text: str) -> Address:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        if text.count(":") > 1:
            raise ValueError(f"{text!r} is not an address; write IPv6 in brackets, as in [::1]:9091")
        raise ValueError(f"{text!r} is not an address; write host:port as in 127.0.0.1:9091, or unix:///path")
    bracketed, host, port = match[1], match[2], int(match[3])
    if port > 65535:
        raise ValueError(f"{text!r}: {port} is not a port; ports end at 65535")
    if bracketed is not None:
        try:
            ipaddress.IPv6Address(bracketed)
        except ValueError:
            raise ValueError(f"{text!r}: {bracketed!r} is not an IPv6 address; write it as in [::1]:9091") from None
        return Address(host=bracketed, port=port)
    if not host:
        raise ValueError(f"{text!r} names no host; write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface")
    return Address(host=host, port=port)


ListenAddress = Annotated[
    Address,
    PlainValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
"""An `Address`, written as text."""
