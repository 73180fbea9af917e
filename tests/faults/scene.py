"""Real parts under steady traffic, and one fault after another in them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from mixer_py.demo.parts import is_ready
from mixer_py.demo.processes import Ports
from tests.faults.fault import Fault, Seen
from tests.faults.traffic import Traffic
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, http_filter, shipped
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

Drop = tuple[str, str]
"""A table, and why rows of it are dropped."""
RATE = 25
"""Requests a second."""
_CALM = 25
"""Requests in a row that pass before all counts as well."""
_TIMEOUT = "10s"
"""Of what Envoy asks of mixer: where others work too, a process that is well may not get a processor for seconds."""
_PATIENCE = 6.0
"""By how much longer than `Fault.heals` it may take there: processes that start want two processors for themselves."""
_CALM_SECONDS = 120.0
_LOOK_SECONDS = 0.2
"""Between looks at mixer's metrics, which are work for a machine that has enough of it."""
_SETTLE_SECONDS = 120.0
_COMING_SECONDS = 10.0
_POLICY = """
package envoy.authz

import rego.v1

default allow := false

allow if not input.parsed_path[0] in {"loop", "panic", "allocate"}

allow if {
    input.parsed_path[0] == "panic"
    word := input.parsed_query.q[0]
    time.parse_ns(word, word) > 0
}

allow if {
    input.parsed_path[0] == "allocate"
    count([x | some i in numbers.range(1, 10000); x := [i | some j in numbers.range(1, 10000)]]) == 0
}

allow if {
    input.parsed_path[0] == "loop"
    count([1 | some i in numbers.range(1, 10000); some j in numbers.range(1, 10000); i * j == 0]) == 0
}
"""
LEASE = 20
"""Hits that a worker takes ahead, where it does."""


@dataclass
class Scene:
    """What runs.

    Attributes:
        mixer, envoy, traffic: the parts that every setup has.
        parts: others, by name: `valkey`, `proxy`, `opa`, `bundles`.
        programs, ports, folder: with which a fault may start more.
        settings: mixer's.
        edit: what Envoy's shipped configuration is changed by.
        clocks: by how many seconds mixer's clock may be ahead, besides 0.
        complaints: what a fault saw that was not as promised, besides what is always looked at.
    """

    programs: Programs
    ports: Ports
    folder: Path
    mixer: Mixer
    envoy: EnvoyProxy
    upstream: Upstream
    parts: dict[str, Any] = field(default_factory=dict)
    traffic: Traffic = field(init=False)
    settings: dict[str, Any] = field(default_factory=dict)
    edit: Callable[[Bootstrap], None] = field(default_factory=lambda: quick)
    clocks: tuple[float, ...] = ()
    complaints: list[str] = field(default_factory=list)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of mixer's own, by name and labels; nothing while mixer is away."""
        try:
            return self.mixer.metrics("mixer_")
        except OSError:
            return {}

    def metric(self, name: str, **labels: str) -> float:
        """The sum over the series that have these labels; 0 while mixer is away."""
        wanted = labels.items()
        return sum(value for (found, has), value in self.metrics().items() if found == name and wanted <= has)

    def start_envoy(self) -> None:
        """Starts Envoy as the setup has it."""
        self.envoy.start(shipped(), edit=self.edit)

    def restarts(self, process: str) -> float:
        """How often a process was replaced."""
        return self.metric("mixer_worker_restarts_total", process=process)

    def ready(self) -> bool:
        """Whether mixer says that it is."""
        return is_ready(self.mixer.admin)

    def eventually(self, look: Callable[[], object], what: str, seconds: float = 180.0) -> None:
        """Waits until it is true."""
        eventually(look, what, seconds, pause=_LOOK_SECONDS)

    def dropped(self) -> Counter[Drop]:
        """Rows that were dropped until now, by table and reason."""
        found: Counter[Drop] = Counter()
        for (name, labels), value in self.metrics().items():
            has = dict(labels)
            if name == "mixer_rows_total" and has["state"] == "dropped" and value:
                found[has["table"], has["reason"]] += int(value)
        return found

    def told_at_ends(self, since: int) -> list[Counter[Drop]]:
        """What each mixer that ended told of rows that were dropped, in its log after so many bytes."""
        told = []
        for line in self.mixer.running.log.read_bytes()[since:].splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # gRPC and Envoy write there, too
                event = json.loads(line)
                if isinstance(event, dict) and isinstance(event.get("rows"), dict):  # others tell a number
                    told.append(_dropped_by(event["rows"]))
        return told

    def unsettled(self) -> list[str]:
        """By how much each table's books are off (DESIGN 5), or how many rows wait; nothing when all is written."""
        books: dict[str, Counter[str]] = {}
        for (name, labels), value in self.metrics().items():
            has = dict(labels)
            if name == "mixer_rows_total":
                books.setdefault(has["table"], Counter())[has["state"]] += int(value)
            elif name in {"mixer_queue_rows", "mixer_spool_rows"}:
                books.setdefault(has["table"], Counter())["waiting"] += int(value)
        if not books:
            return ["mixer does not answer"]
        off = [
            f"{table}: received {book['received'] + book['adopted']}, written {book['written']}, "
            f"dropped {book['dropped']}, left {book['left']}, waiting {book['waiting']}"
            for table, book in books.items()
            if book["received"] + book["adopted"] != book["written"] + book["dropped"] + book["left"] + book["waiting"]
        ]
        return off or [f"{table}: {book['waiting']} rows wait" for table, book in books.items() if book["waiting"]]

    def rows_of(self, ids: set[str], table: str) -> int:
        """How many of these requests have a row there."""
        times = [int(time.time()) - 900]  # as Envoy sees it
        if table == "decisions":  # at the time of mixer's own clock, which may have been set otherwise
            times += [times[0] + int(ahead) for ahead in self.clocks]
        when = " OR ".join(f"timestamp BETWEEN toDateTime({one}) AND toDateTime({one + 1800})" for one in times)
        rows = self.mixer.rows(f"SELECT DISTINCT request_id FROM {table} WHERE {when}")
        return len(ids & {row["request_id"] for row in rows})

    def try_out(self, fault: Fault) -> Seen:
        """Lets a fault happen, and says what was seen."""
        before, begun, log = self.dropped(), time.monotonic(), self.mixer.running.log.stat().st_size
        generation = self.mixer.running.pid
        broken: list[str] = []
        self.complaints = broken
        fault.inject(self)
        ended = time.monotonic()
        if not self._calm(ended, _CALM_SECONDS):
            broken.append(f"requests still fail {_CALM_SECONDS:g} s later")
        sent = self.traffic.since(begun)
        self._settle(broken)
        failures = [one for one in sent if one.failed]
        healed = max((one.at - ended for one in failures if one.at > ended), default=0.0)
        if fault.failing is not None and len(failures) > fault.failing:
            statuses = Counter(one.status for one in failures)
            broken.append(f"{len(failures)} requests failed ({dict(statuses)}), {fault.failing} may")
        if healed > fault.heals * _PATIENCE:
            broken.append(f"requests failed until {healed:.1f} s later, {fault.heals:g} are promised")
        drops = self.dropped()
        if generation != self.mixer.running.pid:  # the books began anew
            ends = self.told_at_ends(log)
            drops += sum(ends, Counter()) if ends else before
        drops -= before
        lost: Counter[str] = Counter()
        for (_, reason), count in drops.items():
            lost[reason] += count
        broken += [
            f"{count} rows were dropped: {reason}" for reason, count in lost.items() if reason not in fault.losing
        ]
        if fault.holds is not None and (words := fault.holds(self)):
            broken.append(words)
        passed = [one for one in sent if not one.failed]
        ids = {one.request_id for one in passed}
        unlogged = len(ids) - self._logged(ids, "requests")
        undecided = len(ids) - self._logged(ids, "decisions", but=_of_decisions(drops))
        if undecided > _of_decisions(drops) and not fault.unbooked:
            broken.append(f"{undecided} decisions have no row, {_of_decisions(drops)} are counted as dropped")
        slowest = max((one.seconds for one in passed), default=0.0)
        return Seen(len(sent), len(failures), healed, slowest, dict(lost), unlogged, tuple(broken))

    def _calm(self, since: float, seconds: float) -> bool:
        """Waits until so many requests in a row have passed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            later = self.traffic.since(since)
            if len(later) >= _CALM and not any(one.failed for one in later[-_CALM:]):
                return True
            time.sleep(0.1)
        return False

    def _settle(self, broken: list[str]) -> None:
        """Waits until nothing moves, and looks into the books then."""
        self.traffic.hold()
        try:
            end = time.monotonic() + _SETTLE_SECONDS
            while time.monotonic() < end:
                if not self.unsettled():
                    return
                time.sleep(_LOOK_SECONDS)
            broken += self.unsettled()
        finally:
            self.traffic.go_on()

    def _logged(self, ids: set[str], table: str, but: int = 0) -> int:
        """How many have a row, once those have come that come: all but so many, or what there are after a while."""
        end, best = time.monotonic() + _COMING_SECONDS, 0
        while time.monotonic() < end and best < len(ids) - but:
            with contextlib.suppress(AssertionError, OSError, json.JSONDecodeError):  # the store is being replaced
                best = self.rows_of(ids, table)
            if best < len(ids) - but:
                time.sleep(_LOOK_SECONDS)
        return best


def _dropped_by(books: Mapping[str, Mapping[str, int]]) -> Counter[Drop]:
    """Of the books of each table, what was dropped, by table and reason."""
    return Counter({
        (table, state.removeprefix("dropped ")): rows
        for table, states in books.items()
        for state, rows in states.items()
        if state.startswith("dropped ")
    })  # fmt: skip


def _of_decisions(drops: Mapping[Drop, int]) -> int:
    return sum(rows for (table, _), rows in drops.items() if table == "decisions")


def quick(bootstrap: Bootstrap) -> None:
    """As shipped, but for patience that suits a machine which does much else."""
    http_filter(bootstrap, "ext_authz")["grpc_service"]["timeout"] = _TIMEOUT
    http_filter(bootstrap, "ratelimit")["timeout"] = _TIMEOUT


def signal_process(pid: int, number: signal.Signals) -> None:
    """Sends it, unless the process has just ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def limits(more: str = "") -> str:
    """The file of limits; every request is charged one hit. `more`: further keys of the limit."""
    return f"""
domain: mesh
descriptors:
  - key: tenant
    descriptors:
      - key: service
        rate_limit: {{unit: day, requests_per_unit: 1000000{more}}}
"""


def base_settings(**more: Mapping[str, Any]) -> dict[str, Any]:
    """Every room at work; rows in chDB, and on disk while that is away."""
    whole: dict[str, Any] = {
        "server": {"drain_timeout": "3s", "flush_timeout": "3s"},
        "policy": {"bundles": ["policies"]},
        "rate_limit": {"config": ["limits.yaml"]},
        "telemetry": {"clickhouse": {"url": "chdb://rows"}, "spool": {"directory": "spool"}},
    }
    for room, keys in more.items():
        whole[room] = {**whole.get(room, {}), **keys}
    return whole


@contextlib.contextmanager
def open_scene(folder: Path, settings: Mapping[str, Any], start: Callable[[Scene], None]) -> Iterator[Scene]:
    """Starts mixer, Envoy and traffic.

    Args:
        folder: for files and logs.
        settings: mixer's.
        start: starts other parts before mixer, and may change `scene.settings`.
    """
    with contextlib.ExitStack() as stack:
        programs = stack.enter_context(Programs(folder))
        ports = Ports()
        stack.callback(ports.close)
        upstream = Upstream()
        serving = Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        stack.callback(lambda: (upstream.shutdown(), serving.join(), upstream.server_close()))
        mixer = Mixer(programs, ports, folder)
        mixer.write("policies/authz.rego", _POLICY)
        mixer.write("limits.yaml", limits())
        envoy = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=upstream.port)
        scene = Scene(programs, ports, folder, mixer, envoy, upstream, settings=dict(settings))
        start(scene)
        mixer.configure(scene.settings)
        mixer.start()
        scene.start_envoy()
        scene.traffic = Traffic(scene.envoy.port, RATE)
        stack.enter_context(scene.traffic)
        if not scene._calm(time.monotonic(), _CALM_SECONDS):
            raise AssertionError("requests do not pass before any fault")
        yield scene
