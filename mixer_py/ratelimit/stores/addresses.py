"""What `rate_limit.store` may say: the address of a counter store, parsed once.

Not for: connecting, and passwords, which stand in secrets beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_FORMS: Final = (
    "memory://, redis://host:6379/0, rediss://host:6379/0, unix:///path, redis+sentinel://… or redis+cluster://…"
)
_PORTS: Final = {"redis": 6379, "rediss": 6379, "redis+cluster": 6379, "rediss+cluster": 6379,
                 "redis+sentinel": 26379, "rediss+sentinel": 26379}  # fmt: skip
"""By scheme, where a host names none."""
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]@/\s]+))(?::(\d{1,5}))?")
_MAX_UNIX_PATH: Final = 107  # bytes of sockaddr_un.sun_path on Linux, without its final zero

Kind = Literal["single", "unix", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis or a Valkey.

    Attributes:
        kind: one server by host or by `unix` socket, the master that Sentinels name, or a cluster.
        hosts: host and port of the server, of the Sentinels, or of some nodes of the cluster.
        path: of a unix socket.
        database: its number; a cluster has 0 only.
        user: of the ACL; empty for the default one.
        secure: whether TLS is spoken, also with Sentinels.
        master: what the Sentinels call the master.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    database: int = 0
    user: str = ""
    secure: bool = False
    master: str = ""

    @property
    def name(self) -> str:
        """For people and labels."""
        if self.kind == "unix":
            return f"unix://{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.master}@{hosts}" if self.master else hosts


def parse_store(uri: str) -> RedisAddress | None:
    """What an address names; None for the memory of this process.

    Raises:
        ValueError: it names no store; the message says what would.
    """
    if uri == "memory://":
        return None
    scheme, separator, rest = uri.partition("://")
    if not separator or (scheme not in _PORTS and scheme != "unix"):
        raise ValueError(f"{_shown(uri)!r} is no address of a counter store; write {_FORMS}")
    if scheme != "unix" and ":" in rest.rpartition("@")[0]:
        raise ValueError("a password does not belong into the address; write redis: {password: {file: path}} beside it")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ValueError(f"{_shown(uri)!r}: {error}") from None
    uri = _shown(uri)
    if parts.fragment or (parts.query and scheme != "unix"):
        raise ValueError(f"{uri!r}: nothing may follow the database")
    return _unix(uri, parts) if scheme == "unix" else _servers(uri, scheme, parts)


def _unix(uri: str, parts: SplitResult) -> RedisAddress:
    query = parse_qs(parts.query, keep_blank_values=True)
    if set(query) - {"db"}:
        raise ValueError(f"{uri!r}: only ?db= may follow the path, not {', '.join(sorted(set(query) - {'db'}))}")
    path = unquote(parts.path)
    if parts.netloc or len(path) < 2:
        raise ValueError(f"{uri!r} names no unix socket; write an absolute path, as in unix:///run/valkey.sock")
    if "\0" in path or len(path.encode()) > _MAX_UNIX_PATH:
        raise ValueError(f"{uri!r} is too long for a unix socket: at most {_MAX_UNIX_PATH} bytes of path")
    return RedisAddress("unix", path=path, database=_database(uri, query.get("db", ["0"])[-1]))


def _servers(uri: str, scheme: str, parts: SplitResult) -> RedisAddress:
    user, _, hosts = parts.netloc.rpartition("@")
    found = tuple(_host(uri, host, _PORTS[scheme]) for host in hosts.split(","))
    base, _, kind = scheme.partition("+")
    address = RedisAddress("single", found, user=unquote(user), secure=base == "rediss")
    segments = [unquote(part) for part in parts.path.split("/")[1:] if part]
    if kind == "sentinel":
        if not segments:
            raise ValueError(f"{uri!r} names no master; write {scheme}://host:26379,host:26379/master/0")
        address = replace(address, kind="sentinel", master=segments.pop(0))
    if len(segments) > 1:
        raise ValueError(f"{uri!r}: nothing may follow the database")
    address = replace(address, database=_database(uri, segments[0] if segments else "0"))
    if kind == "cluster":
        if address.database:
            raise ValueError(f"{uri!r}: a cluster has database 0 only; leave /{address.database} out")
        return replace(address, kind="cluster")
    if not kind and len(found) > 1:
        raise ValueError(f"{uri!r} names several hosts; write {base}+cluster:// or {base}+sentinel://, or one host")
    return address


def _host(uri: str, text: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError(f"{uri!r}: {text!r} is no host; write host:{port}, with IPv6 in brackets as in [::1]:{port}")
    number = int(match[3]) if match[3] else port
    if not 1 <= number <= 65535:
        raise ValueError(f"{uri!r}: {number} is not a port; ports are 1 to 65535")
    return match[1] or match[2], number


def _database(uri: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 5:
        raise ValueError(f"{uri!r}: {text!r} is no number of a database; write 0")
    return int(text)


def _shown(uri: str) -> str:
    """An address without what may be a password."""
    return re.sub(r"(?<=://).*@", "…@", uri, flags=re.DOTALL)
