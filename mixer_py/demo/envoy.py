"""Envoy as the demo and the tests use it: a configuration moved to free ports, its command line."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def read_bootstrap(path: Path) -> dict[str, Any]:
    """An Envoy configuration as plain data.

    Raises:
        OSError: the file cannot be read.
    """
    bootstrap: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return bootstrap


def relocate(
    bootstrap: Mapping[str, Any],
    *,
    listener: int,
    clusters: Mapping[str, int | Sequence[int]],
    admin: int | None = None,
) -> dict[str, Any]:
    """The same configuration on other ports of 127.0.0.1.

    Args:
        bootstrap: an Envoy configuration with one listener.
        listener: port of that listener.
        clusters: port of each cluster's endpoints, or ports that they get in turn, by the cluster's name.
        admin: port of Envoy's admin listener; None leaves it out.
    """
    moved: dict[str, Any] = copy.deepcopy(dict(bootstrap))
    resources = moved["static_resources"]
    resources["listeners"][0]["address"] = _address(listener)
    for cluster in resources["clusters"]:
        if cluster["name"] in clusters:
            given = clusters[cluster["name"]]
            ports = itertools.cycle((given,) if isinstance(given, int) else given)
            group = cluster["load_assignment"]["endpoints"][0]
            # Each by itself: those that YAML's aliases repeat are one object.
            group["lb_endpoints"] = [copy.deepcopy(one) for one in group["lb_endpoints"]]
            for one in group["lb_endpoints"]:
                one["endpoint"]["address"] = _address(next(ports))
    moved.pop("admin", None)
    if admin is not None:
        moved["admin"] = {"address": _address(admin)}
    return moved


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def write_bootstrap(bootstrap: Mapping[str, Any], path: Path) -> None:
    """Writes it for `command`; only its owner can read it."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(bootstrap, indent=1), encoding="utf-8")


def command(binary: Path, bootstrap: Path) -> list[str]:
    """The command line of an Envoy of one thread that shares nothing with other Envoys of this machine."""
    return [
        str(binary), "--config-path", str(bootstrap), "--concurrency", "1", "--disable-hot-restart",
        "--log-level", "warning", "--drain-time-s", "1",
    ]  # fmt: skip
