"""Read the bootstrap of `server.data_plane`, and refuse what mixer cannot start or could not end well.

Not for: whether Envoy takes the rest; that `envoy --mode validate` says, and Envoy when it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mixer_py.config.address import Address
from mixer_py.config.server import ServerSettings
from mixer_py.errors import ConfigurationError, Fault

_FIELD: Final = "server.data_plane.bootstrap"
_OURS: Final = ("admin", "static_resources", "dynamic_resources", "bootstrap_extensions", "overload_manager")


@dataclass(frozen=True, slots=True)
class DataPlane:
    """The Envoy that is to carry traffic.

    Attributes:
        bootstrap: as a person wrote it; each of its listeners has a name.
        threads: Envoy's worker threads.
    """

    bootstrap: Mapping[str, Any]
    threads: int


def read_data_plane(server: ServerSettings) -> DataPlane | None:
    """The Envoy that is to carry traffic; None where the settings name none.

    Raises:
        ConfigurationError: its bootstrap cannot be used.
    """
    settings = server.data_plane
    if settings is None:
        return None
    try:
        document = yaml.load(Path(settings.bootstrap).read_text(encoding="utf-8"), yaml.CSafeLoader)
    except OSError as error:
        raise ConfigurationError([Fault(f"cannot be read: {error.strerror}", settings.bootstrap, 0, _FIELD)]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"is neither YAML nor JSON: {error}".splitlines()[0]
        raise ConfigurationError([Fault(message, settings.bootstrap, 0, _FIELD)]) from None
    faults = [Fault(message, settings.bootstrap, 0, _FIELD, way_out) for message, way_out in _faults(document, server)]
    if faults:
        raise ConfigurationError(faults)
    return DataPlane(document, settings.threads)


def places_of(data_plane: DataPlane | None) -> Iterator[Address]:
    """Where traffic comes in and another process could come in between: to be held against a second mixer.

    The kernel does that for an abstract unix socket, and for a port that is not shared.
    """
    for listener in data_plane.bootstrap["static_resources"]["listeners"] if data_plane is not None else ():
        address = listener.get("address") or {}
        port, path = address.get("socket_address") or {}, (address.get("pipe") or {}).get("path") or ""
        shares = listener.get("enable_reuse_port", True)
        if shares and port.get("port_value") and port.get("protocol", "TCP") == "TCP":
            yield Address(str(port["address"]), int(port["port_value"]))
        elif path and not path.startswith("@"):
            yield Address(path=str(Path(path).absolute()))


def _faults(document: Any, server: ServerSettings) -> Iterator[tuple[str, str]]:  # noqa: ANN401 (as it was written)
    """What is wrong, each with its way out."""
    if not isinstance(document, dict):
        yield "is no bootstrap of Envoy", "see deploy/envoy-inside/envoy.yaml"
        return
    camel = [key for key in document if "_" not in key and key.lower() != key]
    if camel:
        yield f"spells {camel[0]} without underscores", "write names as Envoy's documentation does"
        return
    shapes = [key for key in _OURS if key in document and not isinstance(document[key], (dict, list))]
    if shapes:
        yield f"{shapes[0]} holds neither fields nor a list", "see deploy/envoy-inside/envoy.yaml"
        return
    if (document.get("dynamic_resources") or {}).get("lds_config") is not None:
        yield (
            "takes its listeners from a control plane, so mixer could not hold traffic back until it can decide",
            "write them under static_resources.listeners; clusters, routes and secrets may come from there",
        )
    yield from _listener_faults((document.get("static_resources") or {}).get("listeners"), server)
    address = (document.get("admin") or {}).get("address") or {}
    if server.workers > 1 and "socket_address" in address:
        yield f"{server.workers} workers are as many Envoys, which cannot share one admin port", "leave admin out"


def _listener_faults(listeners: Any, server: ServerSettings) -> Iterator[tuple[str, str]]:  # noqa: ANN401 (idem)
    if not isinstance(listeners, list) or not listeners or not all(isinstance(one, Mapping) for one in listeners):
        yield "has no listener", "name those through which traffic comes under static_resources.listeners"
        return
    internal = {one.address.internal for one in server.listeners if one.address.internal}
    seen: set[str] = set()
    for index, listener in enumerate(listeners):
        name = listener.get("name")
        if not isinstance(name, str) or not name:
            yield f"static_resources.listeners.{index} has no name", "give it one of its own"
        elif name in internal:
            yield f"has a listener {name}, as is that of mixer inside", f"leave it out: mixer adds internal://{name}"
        elif name in seen:
            yield f"has two listeners {name}", "give each a name of its own"
        if server.workers > 1 and "pipe" in (listener.get("address") or {}):
            yield (
                f"has a listener {name} on a unix socket, which {server.workers} workers, as many Envoys, cannot share",
                "use a port, or server.workers: 1",
            )
        seen.add(str(name))
