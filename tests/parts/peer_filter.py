"""A Wasm filter for Envoy that leaves objects in filter state, as Istio's metadata exchange did: assembled here.

It is a module of WebAssembly (core specification 5) for Proxy-Wasm's ABI 0.2.1, with the functions that Envoy asks for
and no more. Not for: what the objects say (`peer_forms.py`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

HEADER: Final = "x-said"
"""The request header that chooses which of several such filters speaks."""
PROTOBUF: Final = 3
FLAT_BUFFERS: Final = 2
"""Types of `DeclarePropertyArguments` (envoyproxy/envoy source/extensions/common/wasm/ext/declare_property.proto)."""
_REQUEST: Final = 1
"""A span in it: as long as the request."""

_I32: Final = 0x7F
_DATA_AT: Final = 1024
_ROOM_AT: Final = 65536
"""Where the host may write, a page of its own; its answers are read at once and may lie over one another."""
_IMPORTS: Final = {"proxy_set_property": 4, "proxy_get_header_map_value": 5, "proxy_call_foreign_function": 6}
"""Functions of the host and how many numbers they take; each returns one."""


def http_filter(said: Mapping[str, bytes], when: str, declared: tuple[int, str] | None = None) -> dict[str, Any]:
    """An HTTP filter that says it of each request that has `when`, one character, in `HEADER`."""
    return _filter("http", said, when, declared)


def network_filter(said: Mapping[str, bytes], declared: tuple[int, str] | None = None) -> dict[str, Any]:
    """A network filter that says it of each connection."""
    return _filter("network", said, "-", declared)


def _filter(kind: str, said: Mapping[str, bytes], when: str, declared: tuple[int, str] | None) -> dict[str, Any]:
    code = base64.b64encode(module(said, when, declared)).decode()
    name = f"peers-{when}"
    machine = {"vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"inline_bytes": code}}}
    config = {
        "@type": f"type.googleapis.com/envoy.extensions.filters.{kind}.wasm.v3.Wasm",
        "config": {"name": name, "root_id": name, "vm_config": machine},
    }
    return {"name": f"envoy.filters.{kind}.wasm", "typed_config": config}


def module(said: Mapping[str, bytes], when: str, declared: tuple[int, str] | None = None) -> bytes:
    """The module's bytes.

    Args:
        said: objects by name; Envoy puts `wasm.` before it.
        when: what `HEADER` begins with, one character, where it says them of requests.
        declared: type and schema that the objects are declared with; bytes where not.
    """
    data = _Data()
    speak = b"".join(
        _call("proxy_set_property", *data.of(name.encode()), *data.of(value)) for name, value in said.items()
    )
    declare = b"".join(
        _call("proxy_call_foreign_function", *data.of(b"declare_property"), *data.of(_arguments(name, *declared)), 0, 4)
        for name in (said if declared else ())
    )
    # The value's place is at 0 after the call; where there is no such header, 0 is still there, and so is 0 at place 0.
    look = _number(0) + _store(0) + _call("proxy_get_header_map_value", 0, *data.of(HEADER.encode()), 0, 4)
    look += _number(0) + b"\x28\x02\x00" + b"\x2d\x00\x00"  # i32.load, then i32.load8_u of what it names
    choose = look + _number(ord(when)) + b"\x46\x04\x40" + speak + b"\x0b"  # i32.eq, if … end
    functions = {
        "proxy_abi_version_0_2_1": (0, b"", 0),
        "proxy_on_memory_allocate": (1, _number(_ROOM_AT), 1),
        "proxy_on_configure": (2, declare + _number(1), 1),
        "proxy_on_request_headers": (3, choose + _number(0), 1),
        "proxy_on_new_connection": (1, speak + _number(0), 1),
    }
    return _assembled(functions, bytes(data.data))


class _Data:
    """What the module's memory holds from its start."""

    def __init__(self) -> None:
        self.data = bytearray()

    def of(self, content: bytes) -> tuple[int, int]:
        """Place and length of a content."""
        self.data += content
        return _DATA_AT + len(self.data) - len(content), len(content)


def _arguments(name: str, kind: int, schema: str) -> bytes:
    """`DeclarePropertyArguments`."""
    texts = b"".join(
        bytes([field << 3 | 2]) + _unsigned(len(text)) + text
        for field, text in ((1, name.encode()), (4, schema.encode()))
    )
    return texts + bytes([3 << 3, kind, 5 << 3, _REQUEST])


def _assembled(functions: Mapping[str, tuple[int, bytes, int]], data: bytes) -> bytes:
    """A module with functions (how many numbers they take, their code, how many they return), memory, and data."""
    signatures = [(count, 1) for count in _IMPORTS.values()] + [
        (takes, gives) for takes, _, gives in functions.values()
    ]
    types = [
        b"\x60" + _vector([bytes([_I32])] * takes) + _vector([bytes([_I32])] * gives) for takes, gives in signatures
    ]
    first = len(_IMPORTS)
    imports = [_text("env") + _text(name) + b"\x00" + _unsigned(place) for place, name in enumerate(_IMPORTS)]
    exports = [_text(name) + b"\x00" + _unsigned(first + place) for place, name in enumerate(functions)]
    bodies = [b"\x00" + code + b"\x0b" for _, code, _ in functions.values()]
    sections = {
        1: types,
        2: imports,
        3: [_unsigned(first + place) for place in range(len(functions))],
        5: [b"\x00\x02"],  # two pages of memory
        7: [*exports, _text("memory") + b"\x02\x00"],
        10: [_unsigned(len(body)) + body for body in bodies],
        11: [b"\x00" + _number(_DATA_AT) + b"\x0b" + _unsigned(len(data)) + data],
    }
    content = ((number, _vector(entries)) for number, entries in sections.items())
    return b"\x00asm\x01\x00\x00\x00" + b"".join(bytes([number]) + _unsigned(len(one)) + one for number, one in content)


def _call(name: str, *numbers: int) -> bytes:
    """Calls a function of the host with constants, and forgets what it returns."""
    return b"".join(map(_number, numbers)) + b"\x10" + _unsigned(list(_IMPORTS).index(name)) + b"\x1a"


def _store(number: int) -> bytes:
    """Stores a constant at the place that is on the stack."""
    return _number(number) + b"\x36\x02\x00"


def _number(value: int) -> bytes:
    """`i32.const`, whose value is signed."""
    encoded = bytearray()
    while not 0 <= value < 64:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return b"\x41" + bytes(encoded) + bytes([value])


def _unsigned(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


def _vector(entries: list[bytes]) -> bytes:
    return _unsigned(len(entries)) + b"".join(entries)


def _text(value: str) -> bytes:
    return _unsigned(len(value)) + value.encode()
