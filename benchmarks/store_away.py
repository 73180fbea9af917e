"""What callers see while the counter store is killed, hung and slow, and when it is back: through a running mixer.

    .venv/bin/python benchmarks/store_away.py

One caller asks again and again over one connection, so that each figure is a call's own. Loopback only; about a minute.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.demo.processes import Ports
from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import Mixer
from tests.parts.programs import Programs
from tests.parts.tcp_proxy import SlowProxy
from tests.parts.valkey import Valkey

RULES = "domain: mesh\ndescriptors:\n  - {key: tenant, rate_limit: {unit: day, requests_per_unit: 1000000}}\n"
SECONDS = 3.0
"""Of each fault."""


def request() -> rls_pb2.RateLimitRequest:
    """One descriptor."""
    asked = rls_pb2.RateLimitRequest(domain="mesh")
    asked.descriptors.add().entries.add(key="tenant", value="acme")
    return asked


def watch(client: Client, until: Callable[[list[tuple[float, str]]], bool]) -> list[tuple[float, str]]:
    """Milliseconds and outcome of each call, for as long as `until` is false."""
    seen: list[tuple[float, str]] = []
    while not until(seen):
        begun = time.perf_counter()
        try:
            client.limit(request())
            outcome = "OK"
        except grpc.RpcError as error:
            outcome = error.code().name
        seen.append(((time.perf_counter() - begun) * 1000, outcome))
        time.sleep(0.002)
    return seen


def row(name: str, seen: list[tuple[float, str]], note: str = "") -> None:
    """Prints what was seen."""
    times = sorted(milliseconds for milliseconds, _ in seen)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in Counter(one for _, one in seen).most_common())
    worst = times[int(len(times) * 0.99)]
    print(
        f"| {name} | {outcomes} | {statistics.median(times):.1f} | {worst:.1f} | {times[-1]:.0f} | {note} |", flush=True
    )


def run(programs: Programs, ports: Ports, folder: Path, timeout: str) -> None:
    """Breaks and mends the store, and prints a table."""
    valkey, mixer = Valkey(programs, ports), Mixer(programs, ports, folder)
    with SlowProxy(valkey.port) as proxy:
        mixer.write("limits.yaml", RULES)
        store = f"redis://127.0.0.1:{proxy.port}"
        mixer.configure({"rate_limit": {"config": ["limits.yaml"], "store": store, "timeout": timeout}})
        mixer.start()
        faults: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "killed": (lambda: (valkey.kill(), proxy.cut()), valkey.start),
            "hung": (valkey.hang, valkey.go_on),
            "slow (2 s)": (lambda: setattr(proxy, "delay", 2.0), lambda: setattr(proxy, "delay", 0.0)),
        }
        print(f"timeout {timeout}\n| the store is | answers | median, ms | 99th, ms | longest, ms | back to OK after |")
        print("|---|---|---|---|---|---|")
        with connect(mixer.address) as client:
            watch(client, lambda seen: bool(seen) and seen[-1][1] == "OK")
            end = time.monotonic() + SECONDS
            row("well", watch(client, lambda _: time.monotonic() > end))
            for name, (break_it, mend) in faults.items():
                break_it()
                end = time.monotonic() + SECONDS
                seen = watch(client, lambda _, end=end: time.monotonic() > end)
                mend()
                mended = time.monotonic()
                watch(client, lambda seen: bool(seen) and seen[-1][1] == "OK")
                row(name, seen, f"{time.monotonic() - mended:.2f} s")


def main() -> None:
    """Starts everything, and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", default="50ms", help="rate_limit.timeout (default: %(default)s)")
    options = parser.parse_args()
    ports = Ports()
    with tempfile.TemporaryDirectory() as folder, Programs(Path(folder)) as programs:
        run(programs, ports, Path(folder), options.timeout)
    ports.close()


if __name__ == "__main__":
    main()
