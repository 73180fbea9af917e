"""The sets of parts that faults happen in."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import certificates, clocks
from tests.faults.bundle_server import BundleServer
from tests.faults.scene import LEASE, Scene, base_settings, limits, quick
from tests.parts.clickhouse_server import PASSWORD, ClickHouseServer
from tests.parts.disks import FaultyDisk, SmallDisk
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.opa_server import Opa
from tests.parts.presence import find_server
from tests.parts.set_clock import SetClock
from tests.parts.tcp_proxy import SlowProxy
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Cluster, Watched

_SUBSTITUTES = Path(__file__).parents[1] / "parts" / "old_clickhouse"
"""With it a worker writes what Debian's ClickHouse takes."""
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


def _valkey_behind_a_proxy(scene: Scene, stack: ExitStack, program: Path | None = None) -> None:
    valkey = Valkey(scene.programs, scene.ports, "--enable-debug-command", "local", program=program)
    proxy = stack.enter_context(SlowProxy(valkey.port))
    scene.parts.update(valkey=valkey, proxy=proxy)
    scene.settings = base_settings(rate_limit={**_QUICK_LIMITS, "store": f"redis://127.0.0.1:{proxy.port}"})


def _redis_behind_a_proxy(scene: Scene, stack: ExitStack) -> None:
    _valkey_behind_a_proxy(scene, stack, find_server("redis"))


def _watched_valkey(scene: Scene, stack: ExitStack) -> None:
    """Each Sentinel is behind a proxy of its own."""
    watched = Watched(scene.programs, scene.ports)
    proxies = [stack.enter_context(SlowProxy(sentinel.port)) for sentinel in watched.sentinels]
    scene.parts["valkeys"] = [watched.master, watched.replica]
    scene.parts.update((f"sentinel {number}", one) for number, one in enumerate(watched.sentinels))
    scene.parts.update((f"proxy {number}", one) for number, one in enumerate(proxies))
    uri = watched.uri_by(*(proxy.port for proxy in proxies))
    scene.settings = base_settings(rate_limit={**_QUICK_LIMITS, "store": uri})


def _cluster_of_valkeys(scene: Scene, stack: ExitStack) -> None:
    cluster = Cluster(scene.programs, scene.ports, replicas=1)
    scene.parts.update(cluster=cluster, valkeys=[*cluster.masters, *cluster.replicas])
    scene.settings = base_settings(rate_limit={**_QUICK_LIMITS, "store": cluster.uri})


def _with_leases(start: Callable[..., None]) -> Callable[..., None]:
    """The same parts; the worker takes hits ahead."""

    def start_all(scene: Scene, stack: ExitStack) -> None:
        start(scene, stack=stack)
        scene.mixer.write("limits.yaml", limits(f", lease: {LEASE}"))

    return start_all


def _clickhouse_server(scene: Scene, stack: ExitStack) -> None:
    servers = []
    for name in ("clickhouse", "other"):
        folder = scene.folder / name
        folder.mkdir()
        servers.append(ClickHouseServer(scene.ports, folder))
        servers[-1].start()
        stack.callback(servers[-1].kill)
    proxy = stack.enter_context(SlowProxy(servers[0].target.port))
    scene.parts.update(clickhouse=servers[0], other=servers[1], proxy=proxy)
    scene.mixer.environment = {"PYTHONPATH": str(_SUBSTITUTES)}
    secret = scene.mixer.write("password", PASSWORD)
    clickhouse = {"url": f"clickhouse://default@127.0.0.1:{proxy.port}/mesh", "password": {"file": str(secret)}}
    scene.settings = base_settings(telemetry={"clickhouse": clickhouse})


def _opa(scene: Scene, stack: ExitStack) -> None:
    opa = Opa(scene.programs, scene.ports, [scene.folder / "policies"])
    other = Opa(scene.programs, scene.ports, [scene.folder / "policies"])
    proxy = stack.enter_context(SlowProxy(opa.port))
    scene.parts.update(opa=opa, other=other, proxy=proxy)
    scene.settings = base_settings()
    url = f"http://127.0.0.1:{proxy.port}"
    scene.settings["policy"] = {"engine": "opa", "opa": {"url": url, "timeout": "1s", "health_interval": "200ms"}}


def _bundle_server(scene: Scene, stack: ExitStack) -> None:
    server, other = (stack.enter_context(BundleServer(scene.folder / "policies")) for _ in range(2))
    proxy = stack.enter_context(SlowProxy(server.port))
    scene.parts.update(bundles=server, other=other, proxy=proxy)
    scene.settings = base_settings()
    fetch = {"min_delay": "200ms", "max_delay": "400ms", "timeout": "1s", "folder": "copies"}
    scene.settings["policy"] = {"bundles": [f"http://127.0.0.1:{proxy.port}/bundle.tar.gz"], "fetch": fetch}


def _disks(scene: Scene, stack: ExitStack) -> None:
    """The spool on a small file system of its own; what fails below it or below the database is chosen by a shim."""
    small, large = (scene.folder / name for name in ("small", "large"))
    disks = [SmallDisk(small, "8m"), SmallDisk(large, "2g")]
    for disk in disks:
        stack.callback(disk.close)
    faulty = FaultyDisk(scene.folder)
    scene.parts.update(spool_disk=disks[0], rows_disk=disks[1], faulty=faulty)
    scene.mixer.environment = faulty.environment
    telemetry = {"clickhouse": {"url": "chdb://large/rows"}, "spool": {"directory": "small/spool", "mode": "always"}}
    scene.settings = base_settings(telemetry=telemetry)


def _clock(scene: Scene, stack: ExitStack) -> None:
    clock = SetClock(scene.folder)
    scene.parts["clock"] = clock
    scene.clocks = clocks.SET
    scene.mixer.environment = clock.environment
    scene.mixer.write("policies/authz.rego", clocks.POLICY)
    scene.mixer.write("limits.yaml", clocks.LIMITS)


def _mutual_tls(scene: Scene, stack: ExitStack) -> None:
    names = certificates.Certificates(scene.folder / "tls")
    proxy = stack.enter_context(SlowProxy(scene.mixer.grpc))
    scene.parts.update(certificates=names, proxy=proxy)
    scene.envoy = EnvoyProxy(scene.programs, scene.ports, mixer=proxy.port, upstream=scene.upstream.port)
    scene.settings = base_settings(server={"tls": names.settings})

    def edit(bootstrap: Bootstrap) -> None:
        quick(bootstrap)
        names.speak(bootstrap)

    scene.edit = edit


def _behind_a_proxy(scene: Scene, stack: ExitStack) -> None:
    proxy = stack.enter_context(SlowProxy(scene.mixer.grpc))
    scene.parts["proxy"] = proxy
    scene.envoy = EnvoyProxy(scene.programs, scene.ports, mixer=proxy.port, upstream=scene.upstream.port)


def _candidate(scene: Scene, stack: ExitStack) -> None:
    shutil.copytree(scene.folder / "policies", scene.folder / "candidate")
    scene.settings = base_settings()
    scene.settings["policy"] = {**scene.settings["policy"], "shadow": {"bundles": ["candidate"], "share": 1.0}}


def _inside(scene: Scene, stack: ExitStack) -> None:
    scene.mixer.use_envoy()
    logs = int(scene.mixer.second.rpartition(":")[2])
    services = {"mixer": scene.mixer.grpc, "upstream": scene.upstream.port, "logs": logs}
    scene.envoy = EnvoyProxy(scene.programs, scene.ports, **services)
    scene.edit = _log_elsewhere


def _log_elsewhere(bootstrap: Bootstrap) -> None:
    """Access logs go to a cluster of their own: streams are not carried by the transport envoy."""
    quick(bootstrap)
    clusters = bootstrap["static_resources"]["clusters"]
    own = copy.deepcopy(next(cluster for cluster in clusters if cluster["name"] == "mixer"))
    own["name"] = own["load_assignment"]["cluster_name"] = "logs"
    own.pop("health_checks", None)
    clusters.append(own)
    log = manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]
    log["grpc_service"]["envoy_grpc"]["cluster_name"] = "logs"


SETUPS: Mapping[str, Setup] = {
    "one worker, rows in chDB": Setup(),
    "one worker, every row spooled first": Setup(
        base_settings(telemetry={"spool": {"directory": "spool", "mode": "always"}})
    ),
    "two workers, an embedded Valkey": Setup(base_settings(server={"workers": 2}, rate_limit=_QUICK_LIMITS)),
    "a ClickHouse server": Setup(start=_clickhouse_server),
    "a candidate beside": Setup(start=_candidate),
    "a worker inside an Envoy": Setup(start=_inside),
    "a Valkey of its own": Setup(start=_valkey_behind_a_proxy),
    "a Redis of its own": Setup(start=_redis_behind_a_proxy),
    "a Valkey that Sentinels watch": Setup(start=_watched_valkey),
    "a cluster of Valkeys": Setup(start=_cluster_of_valkeys),
    "a Valkey that Sentinels watch, leases": Setup(start=_with_leases(_watched_valkey)),
    "a cluster of Valkeys, leases": Setup(start=_with_leases(_cluster_of_valkeys)),
    "an OPA server decides": Setup(start=_opa),
    "a bundle server": Setup(start=_bundle_server),
    "disks that fail": Setup(start=_disks),
    "a clock that is set": Setup(start=_clock),
    "mutual TLS": Setup(start=_mutual_tls),
    "a proxy before mixer": Setup(start=_behind_a_proxy),
}
