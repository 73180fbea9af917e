"""`uri.parse` and `uri.is_valid` as OPA 1.22 has them, which is as Go's net/url reads a URL."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from mixer_py.policy.builtins.operands import string

_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*(?=:)")
_BAD_ESCAPE: Final = re.compile("%(?![0-9a-fA-F]{2})")
_BAD_HOST: Final = re.compile(r"""%(?!25|[89a-fA-F][0-9a-fA-F])|[^\x80-\U0010ffffa-zA-Z0-9\-_.~!$&'()*+,;=:\[\]<>"%]""")
_BAD_ZONE: Final = re.compile(r"""[^\x80-\U0010ffffa-zA-Z0-9\-_.~!$&'()*+,;=:\[\]<>"%]""")
_USER: Final = re.compile(r"[a-zA-Z0-9\-._:~!$&'()*+,;=%@]*")
_PORT: Final = re.compile(":(?P<port>[0-9]*)$")
_PATH_KEPT: Final = "$&+,/:;=@-_.~"


def builtins() -> tuple[tuple[str, int, Callable[..., object]], ...]:
    """Name, number of arguments, and function of each."""
    return (("uri.is_valid", 1, is_valid), ("uri.parse", 1, parse))


def is_valid(text: object) -> bool:
    """`uri.is_valid(x)`; nothing, and what is no text, is not."""
    if not isinstance(text, str) or not text:
        return False
    try:
        parse(text)
    except ValueError:
        return False
    return True


def parse(text: object) -> dict[str, str]:
    """`uri.parse(x)`: the members that the URI has, decoded, and its raw path and query."""
    rest, _, fragment = string(text).partition("#")
    if _CONTROL.search(rest):
        raise ValueError("a control character")
    members = {"fragment": _unescape(fragment)}
    if rest == "*":
        return {"path": "*", "raw_path": "*"} | {name: value for name, value in members.items() if value}
    scheme = _SCHEME.match(rest)
    if rest.startswith(":"):
        raise ValueError("a scheme is missing")
    if scheme is not None:
        members["scheme"] = scheme[0].lower()
        rest = rest[scheme.end() + 1 :]
    rest, _, members["raw_query"] = rest.partition("?")
    if rest.startswith("/") or scheme is None:
        members |= _hierarchy(rest, members.get("scheme", ""))
    return {name: value for name, value in members.items() if value}


def _hierarchy(rest: str, scheme: str) -> dict[str, str]:
    """Host, port and path of what is behind the scheme."""
    members: dict[str, str] = {}
    if not rest.startswith("/") and ":" in rest.partition("/")[0]:
        raise ValueError("a colon in the first segment of a path")
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        members["hostname"], members["port"] = _authority(authority, scheme)
    path = _unescape(rest)
    if path:
        default = quote_from_bytes(unquote_to_bytes(rest), safe=_PATH_KEPT)
        members |= {"path": path, "raw_path": path if rest == default else rest}
    return members


def _authority(text: str, scheme: str) -> tuple[str, str]:
    user, _, host = text.rpartition("@")
    if _USER.fullmatch(user) is None or _BAD_ESCAPE.search(user):
        raise ValueError("a user that is none")
    if host.startswith("["):
        literal, bracket, port = host.rpartition("]")
        if not bracket or "[" in literal[1:] or (port and _PORT.fullmatch(port) is None):
            raise ValueError("an address that is none")
        return _literal(literal[1:]), port[1:]
    if "[" in host:
        raise ValueError("an address that is none")
    colon = host.find(":") if scheme in {"http", "https"} else host.rfind(":")
    if _BAD_HOST.search(host) or (colon >= 0 and _PORT.fullmatch(host[colon:]) is None):
        raise ValueError("a host that is none")
    name = host if colon < 0 else host[:colon]
    return _decoded(name), "" if colon < 0 else host[colon + 1 :]


def _literal(text: str) -> str:
    """An IPv6 address, with its zone when it has one."""
    address, escaped, zone = text.partition("%25")
    if _BAD_HOST.search(address) or _BAD_ESCAPE.search(zone) or _BAD_ZONE.search(_decoded(zone).replace(" ", "")):
        raise ValueError("an address that is none")
    name = _decoded(address) + ("%" + _decoded(zone) if escaped else "")
    ipaddress.IPv6Address(name)
    return name


def _unescape(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ValueError("a percent sign that escapes nothing")
    return _decoded(text)


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode(errors="replace") if "%" in text else text
