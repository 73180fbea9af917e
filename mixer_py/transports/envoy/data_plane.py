"""An Envoy that carries other people's traffic, with mixer inside: its bootstrap, and its listeners.

What a person wrote stays as it is, but that the listeners come to Envoy when there is something to decide with, and go
before it ends. Not for: reading the file (`runtime/data_plane.py`), or what answers inside (`server`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from mixer_py.errors import ProcessError
from mixer_py.transports.envoy.host import OWN, EnvoyHost
from mixer_py.transports.envoy.resources import INTERNAL_STATISTICS, LISTENER, Resource
from mixer_py.transports.places import UNIX, Place

_LOG_SECONDS: Final = 1.2
"""Envoy keeps log entries for up to a second before it sends them, unless it is told otherwise."""
_CONNECTIONS: Final = r"listener\..*\.downstream_cx_active"
_NOT_ITS: Final = (f"listener.{INTERNAL_STATISTICS}.", f"listener.{OWN}", "listener.admin.")


def left_to_python(theirs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a bootstrap the Python inside has to know, for `HostFiles.make`."""
    listeners = [{"@type": LISTENER, **one} for one in theirs["static_resources"]["listeners"]]
    return {"listeners": listeners, "admin": (theirs.get("admin") or {}).get("address")}


def joined(own: Resource, theirs: Mapping[str, Any]) -> Resource:
    """A bootstrap with what mixer needs and what a person wrote, whose word counts where both say something.

    But for their listeners, which come later.

    Args:
        own: as `resources.bootstrap` makes it.
        theirs: what a person wrote.
    """
    whole = {**own, **theirs}
    whole["node"] = {**own["node"], **theirs.get("node", {})}
    whole["admin"] = theirs.get("admin") or own["admin"]
    resources = theirs.get("static_resources", {})
    whole["static_resources"] = {**resources, "listeners": own["static_resources"]["listeners"]}
    whole["dynamic_resources"] = {**theirs.get("dynamic_resources", {}), **own["dynamic_resources"]}
    extensions = theirs.get("bootstrap_extensions", [])
    named = {one["name"] for one in extensions}
    whole["bootstrap_extensions"] = [*extensions, *(o for o in own["bootstrap_extensions"] if o["name"] not in named)]
    manager = theirs.get("overload_manager", {})
    acting = {one["name"] for one in manager.get("actions", [])}
    whole["overload_manager"] = {
        **own["overload_manager"],
        **manager,
        "resource_monitors": [*manager.get("resource_monitors", []), *own["overload_manager"]["resource_monitors"]],
        "actions": [
            *manager.get("actions", []),
            *(one for one in own["overload_manager"]["actions"] if one["name"] not in acting),
        ],
    }
    return whole


class DataPlaneListeners:
    """Those through which traffic comes."""

    def __init__(self, host: EnvoyHost, sharers: int) -> None:
        """Prepares them; nothing is bound before `start`.

        Args:
            host: the Envoy around, which knows them.
            sharers: how many sockets listen at an address at a time, but for takeovers.
        """
        self._host = host
        self._sharers = sharers
        self._places: list[Place] = []

    async def start(self) -> None:
        """Lets traffic in.

        Raises:
            ProcessError: Envoy does not take a listener, and why.
        """
        for listener in self._host.data_plane:
            place = _place_of(listener, self._sharers)
            try:
                await self._host.add(listener["name"], _bound_at(listener, place))
            except ProcessError as error:
                raise ProcessError(f"the data plane's listener {listener['name']} does not start: {error}") from error
            if place is not None:
                place.publish()
                self._places.append(place)

    async def give_way(self) -> None:
        """Takes no new connections, for a successor listens; who was about to connect here is let in before.

        Those that there are end with their next answers, idle ones a while later.
        """
        await asyncio.gather(*(place.until_empty() for place in self._places))
        self._stop_listening()
        await self._host.hurry_later()

    def _stop_listening(self) -> None:
        for listener in self._host.data_plane:
            self._host.remove(listener["name"])

    async def stop(self, grace: float) -> None:
        """Lets requests in flight and their connections end, and what is logged be sent: `grace` seconds for both."""
        self._stop_listening()
        self._host.hurry()
        logging = min(_LOG_SECONDS, grace / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace - logging):
                await self._host.until_none(_CONNECTIONS, _NOT_ITS)
        for place in self._places:
            place.leave()
        await asyncio.sleep(logging)


def _place_of(listener: Resource, sharers: int) -> Place | None:
    """What a successor takes over; None for a port that the system chooses, and for a name that is in no folder."""
    address = listener.get("address", {})
    port, path = address.get("socket_address", {}), address.get("pipe", {}).get("path", "")
    if port.get("port_value"):
        return Place(f"{port['address']}:{port['port_value']}", sharers)
    return Place(f"{UNIX}{path}") if path.startswith("/") else None


def _bound_at(listener: Resource, place: Place | None) -> Resource:
    """The listener under the name that its unix socket has at first; Envoy would remove that of its predecessor's."""
    pipe = listener.get("address", {}).get("pipe")
    if pipe is None or place is None:
        return listener
    return {**listener, "address": {"pipe": {**pipe, "path": place.bound.removeprefix(UNIX)}}}
