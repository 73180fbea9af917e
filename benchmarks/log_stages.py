"""Where the time of a log entry goes in a worker: each stage alone, in this process; figures as JSON.

    python benchmarks/log_stages.py LABEL_SETS     # for telemetry.py

Microseconds of CPU an entry, the median of some turns, over slices as large as a worker's. A stage in a server costs
more, because between two slices other code has filled the processor's caches; the server's own metrics say how much.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from log_entries import http_message, identified
from payloads import ENTRIES_PER_MESSAGE

from mixer_py.instruments import Registry, SystemClock
from mixer_py.runtime import arrow  # noqa: F401 (Arrow as a worker has it, before any row is handled)
from mixer_py.telemetry import validation
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder, StreamIdentity, parse_identity
from mixer_py.telemetry.istio_metrics import IstioMetrics
from mixer_py.telemetry.metric_reads import for_metrics
from mixer_py.telemetry.privacy_settings import Privacy
from mixer_py.telemetry.settings import PrometheusSettings
from mixer_py.telemetry.store.batches import encode_batch
from mixer_py.telemetry.user_metrics import UserMetrics

Message = tuple[bytes, StreamIdentity]

_MESSAGES = 40
"""About as many as a worker decodes together."""
_TURNS = 40
_BY_HOST: Final = {"name": "shop_requests_total", "kind": "counter", "help": "Requests.",
                   "labels": {"host": "request.host", "class": 'string(response.code / 100) + "xx"'}}  # fmt: skip
_FIVE: Final = (
    _BY_HOST,
    {"name": "shop_uploaded_bytes_total", "kind": "counter", "help": "Bytes.", "value": "request.total_size",
     "match": 'request.method == "POST" && verdict == "allow"', "labels": {"service": "destination.service.name"}},
    {"name": "shop_seconds", "kind": "histogram", "help": "Seconds.", "value": "double(response.duration) / 1000000.0",
     "buckets": [0.01, 0.1, 1, 10], "labels": {"service": "destination.service.name"}},
    {"name": "shop_denied_total", "kind": "counter", "help": "Denied.", "match": 'verdict == "deny"',
     "labels": {"rule": "rule", "caller": "source.principal"}},
    {"name": "shop_microseconds_total", "kind": "counter", "help": "Time.", "value": "response.duration",
     "labels": {"workload": "source.workload.name"}},
)  # fmt: skip
USER_METRICS: Final[Mapping[str, tuple[Any, ...]]] = {
    "one counter, two labels": (_BY_HOST,),
    "five metrics": _FIVE,
    "one counter, a label that is different for each request": (
        {"name": "shop_paths_total", "kind": "counter", "help": "Requests.", "labels": {"id": "request.id"}},
    ),
    "one counter, a header that rows do not show": (
        {
            "name": "shop_tenants_total",
            "kind": "counter",
            "help": "Requests.",
            "labels": {"tenant": 'request.headers["x-tenant"]'},
        },
    ),
}
"""Metrics of a user's own by what they are called in the report."""


def measure(label_sets: int) -> dict[str, float]:
    """Microseconds an entry by stage."""
    messages = [http_message(number * ENTRIES_PER_MESSAGE, label_sets) for number in range(_MESSAGES)]
    identity = parse_identity(identified(b"", 0))
    assert identity is not None
    decoder, registry = AccessLogDecoder(SystemClock()), Registry()
    metrics = IstioMetrics(registry, PrometheusSettings(max_label_sets=1_000_000))
    slices = [(message, identity) for message in messages]
    rows = decoder.decode(slices)
    entries = rows.requests.num_rows
    projected = _median(lambda: decoder._projection.decode(messages), entries)  # noqa: SLF001 (what is measured)
    found = {
        "read": projected,
        "columns": _median(lambda: decoder.decode(slices), entries) - projected,
        "metrics": _median(lambda: metrics.count_requests(rows.requests, rows.alike), entries),
        "check": _median(lambda: validation.check("requests", rows.requests), entries),
        "block": _median(lambda: encode_batch(rows.requests), entries),
    }
    for name, definitions in USER_METRICS.items():
        found[name] = _of_user(PrometheusSettings.model_validate({"metrics": definitions}), decoder, slices)
    return found


def _of_user(settings: PrometheusSettings, decoder: AccessLogDecoder, slices: Sequence[Message]) -> float:
    """What a user's metrics add, with what is read of entries for them alone."""
    counters, reads = UserMetrics(Registry(), settings.metrics), for_metrics(settings.metrics, Privacy())
    own = AccessLogDecoder(SystemClock(), Privacy(for_metrics=reads)) if reads else decoder
    rows = own.decode(slices)
    entries = rows.requests.num_rows
    counting = _median(lambda: counters.count_requests(rows.requests, rows.alike, rows.for_metrics), entries)
    if not reads:
        return counting
    return counting + statistics.median(
        _cost(lambda: own.decode(slices), entries) - _cost(lambda: decoder.decode(slices), entries)
        for _ in range(_TURNS)
    )


def _median(work: Callable[[], object], entries: int) -> float:
    return statistics.median(_cost(work, entries) for _ in range(_TURNS))


def _cost(work: Callable[[], object], entries: int) -> float:
    begun = time.thread_time()
    work()
    return (time.thread_time() - begun) / entries * 1e6


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
