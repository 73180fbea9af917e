"""The sets of parts that faults happen in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.faults.bundle_server import BundleServer
from tests.faults.scene import Scene, base_settings
from tests.parts.opa_server import Opa
from tests.parts.tcp_proxy import SlowProxy
from tests.parts.valkey import Valkey

_QUICK_LIMITS = {"config": ["limits.yaml"], "timeout": "100ms", "on_error": "allow"}


@dataclass(frozen=True, slots=True)
class Setup:
    """Parts, and what mixer is told of them.

    Attributes:
        settings: mixer's.
        start: starts what mixer needs, and says where it is.
    """

    settings: Mapping[str, Any] = field(default_factory=base_settings)
    start: Callable[..., None] = lambda _scene, stack: None


def _valkey_behind_a_proxy(scene: Scene, stack: ExitStack) -> None:
    valkey = Valkey(scene.programs, scene.ports)
    proxy = stack.enter_context(SlowProxy(valkey.port))
    scene.parts.update(valkey=valkey, proxy=proxy)
    scene.settings = base_settings(rate_limit={**_QUICK_LIMITS, "store": f"redis://127.0.0.1:{proxy.port}"})


def _opa(scene: Scene, stack: ExitStack) -> None:
    opa = Opa(scene.programs, scene.ports, [scene.folder / "policies"])
    scene.parts["opa"] = opa
    scene.settings = base_settings()
    scene.settings["policy"] = {"engine": "opa", "opa": {"url": opa.url, "timeout": "1s", "health_interval": "200ms"}}


def _bundle_server(scene: Scene, stack: ExitStack) -> None:
    server = stack.enter_context(BundleServer(scene.folder / "policies"))
    scene.parts["bundles"] = server
    scene.settings = base_settings()
    fetch = {"min_delay": "200ms", "max_delay": "400ms", "timeout": "1s", "folder": "copies"}
    scene.settings["policy"] = {"bundles": [server.url], "fetch": fetch}


SETUPS: Mapping[str, Setup] = {
    "one worker, rows in chDB": Setup(),
    "one worker, every row spooled first": Setup(
        base_settings(telemetry={"spool": {"directory": "spool", "mode": "always"}})
    ),
    "two workers, an embedded Valkey": Setup(base_settings(server={"workers": 2}, rate_limit=_QUICK_LIMITS)),
    "a Valkey of its own": Setup(start=_valkey_behind_a_proxy),
    "an OPA server decides": Setup(start=_opa),
    "a bundle server": Setup(start=_bundle_server),
}
