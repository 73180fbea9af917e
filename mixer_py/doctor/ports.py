"""Whether this machine lets mixer listen where it is to, and who is there already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from mixer_py.config import Configuration
from mixer_py.config.address import Address
from mixer_py.doctor.finding import Finding, fault, good, warning
from mixer_py.errors import ProcessError
from mixer_py.runtime.places import held

_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def examine_ports(configuration: Configuration, running: AbstractSet[str]) -> Iterator[Finding]:
    """Looks at every address of `server`.

    Args:
        configuration: the addresses.
        running: those that the mixer which answers at the socket has; they are in use, and rightly so.
    """
    server = configuration.server
    places = {f"server.listeners.{index}": listener.address for index, listener in enumerate(server.listeners)}
    for key, address in {**places, "server.admin": server.admin}.items():
        subject = f"address {address}"
        if str(address) in running:
            yield good(subject, "the running mixer listens here", key)
            continue
        try:
            with held([address]):
                yield good(subject, "is free", key)
        except ProcessError as error:
            yield fault(subject, _who(address) or str(error), "end that process, or listen elsewhere", key)
    if running and not running & {str(address) for address in places.values()}:
        yield warning(
            "addresses", f"the running mixer listens at {', '.join(sorted(running))}, and at none of these",
            "restart it: listeners hold for the life of a process", "server.listeners",
        )  # fmt: skip


def _who(address: Address) -> str:
    """Who listens there, where that can be told: other users' processes show it to root only."""
    if not address.is_tcp:
        return ""
    inodes = {
        fields[9]
        for table in _TABLES
        if table.exists()
        for fields in map(str.split, table.read_text().splitlines()[1:])
        if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == address.port
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [link.readlink() for link in (process / "fd").iterdir()]
            name = (process / "comm").read_text().strip()
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if any(found and found[1] in inodes for found in (re.fullmatch(r"socket:\[(\d+)\]", str(at)) for at in links)):
            return f"is taken by {name} (process {process.name})"
    return ""
