"""Slice after slice, whatever is remembered or forgotten between them, each request is counted as plain Python does."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

import pytest
from envoy.service.accesslog.v3 import als_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock, Registry, Table, TableReader
from mixer_py.telemetry.access_log import known_parties
from mixer_py.telemetry.access_log.decoding import ANONYMOUS, AccessLogDecoder, StreamIdentity
from mixer_py.telemetry.istio_metrics import IstioMetrics
from mixer_py.telemetry.istio_names import BUCKETS, LABELS
from mixer_py.telemetry.masking import MASKED
from mixer_py.telemetry.privacy_settings import Privacy, RowMaskSettings
from mixer_py.telemetry.row_masking import RowMask
from mixer_py.telemetry.settings import PrometheusSettings

IDENTITIES = (
    ANONYMOUS,
    StreamIdentity("inbound", "envoy-1", "shop", {"NAMESPACE": "a", "WORKLOAD_NAME": "till"}),
    StreamIdentity("outbound", "envoy-2", "shop", {"NAMESPACE": "a", "WORKLOAD_NAME": "web", "LABELS.app": "web"}),
)
MASKS = (
    RowMaskSettings(),
    RowMaskSettings(columns={"destination_service_host": "replace", "source_principal": "replace"}),
    RowMaskSettings(columns={"destination_service_name": "remove"}),
)
COLUMN_OF = {
    "source_workload": "source_workload_name", "destination_workload": "destination_workload_name",
    "destination_service": "destination_service_host", "request_protocol": "context_protocol",
    "grpc_response_status": "response_grpc_status",
}  # fmt: skip
ENTRIES = st.fixed_dictionaries({
    "cluster": st.sampled_from(("", "plain", "inbound|80||", "c" * 300, "c" * 9_000,
                                *(f"outbound|80||s{number}.b.svc.cluster.local" for number in range(8)))),
    "authority": st.sampled_from(("", "one:80", "two", "h" * 300)),
    "caller": st.sampled_from(("", "spiffe://x/ns/b/sa/c", "spiffe://x/ns/d/sa/e", "CN=client")),
    "code": st.sampled_from((0, 200, 503)),
    "failed": st.booleans(),
    "grpc": st.booleans(),
    "micros": st.one_of(st.integers(0, 10**7), st.sampled_from([int(bound * 1000) for bound in BUCKETS])),
    "size": st.sampled_from((0, 1, 5, 6, 10**4)),
})  # fmt: skip
POOLS = st.lists(st.tuples(st.sampled_from(IDENTITIES), ENTRIES), min_size=1, max_size=12)
SLICES = POOLS.flatmap(
    lambda pool: st.lists(
        st.tuples(st.sampled_from((None, *range(len(MASKS)))), st.lists(st.sampled_from(pool), max_size=8)), max_size=8
    )
)
"""Each time the mask that is set before, if any, and entries with their streams' identities; most come again."""
PLAIN = {"cluster": "", "authority": "", "caller": "", "code": 200, "failed": False, "grpc": False, "micros": 1,
         "size": 1}  # fmt: skip


def message(entries) -> bytes:
    logs = als_pb2.StreamAccessLogsMessage()
    for told in entries:
        made = logs.http_logs.log_entry.add()
        common = made.common_properties
        common.upstream_cluster = told["cluster"]
        common.duration.FromMicroseconds(told["micros"])
        common.response_flags.upstream_connection_failure = told["failed"]
        common.tls_properties.peer_certificate_properties.subject = told["caller"]
        made.request.authority = told["authority"]
        made.request.request_headers_bytes = told["size"]
        made.response.response_code.value = told["code"]
        if told["grpc"]:
            made.request.request_headers["content-type"] = "application/grpc"
            made.response.response_trailers["grpc-status"] = "0"
    data: bytes = logs.SerializeToString()
    return data


def labels_of(row, dropped: Sequence[str]) -> tuple[str, ...]:
    """Labels of a row by Istio's rules (reference/mixer.md 3)."""
    found = {}
    for label in LABELS:
        if label == "connection_security_policy":
            known = "mutual_tls" if row["connection_mtls"] else "none"
            found[label] = "unknown" if row["reporter"] == "source" else known
            continue
        value = str(row[COLUMN_OF.get(label, label)])[:256]
        if not value and label not in {"reporter", "grpc_response_status", "response_flags", "request_protocol"}:
            value = "latest" if label.endswith("_revision") else "unknown"
        found[label] = "unknown" if label.endswith("_principal") and "://" not in value else value
    return tuple(value for label, value in found.items() if label not in dropped)


class Plain:
    """Counts rows one after another."""

    def __init__(self) -> None:
        self.counted = defaultdict(lambda: defaultdict(float))

    def count(self, rows, dropped) -> None:
        for row in rows:
            labels = labels_of(row, dropped)
            self.counted["istio_requests_total", labels][0] += 1
            for name, value in (
                ("istio_request_duration_milliseconds", row["response_duration"] / 1000),
                ("istio_request_bytes", row["request_total_size"]),
                ("istio_response_bytes", row["response_total_size"]),
            ):
                self.counted[name, labels][bisect_left(BUCKETS, value)] += 1
                self.counted[name, labels][len(BUCKETS) + 1] += value


def rows_of(decoded):
    return decoded.requests.drop_columns(["timestamp", "response_time"]).to_pylist()


def counted_by(registry: Registry, label: str) -> dict[str, float]:
    """Requests by one of their labels."""
    place = LABELS.index(label)
    series = [(one, values) for one, values in registry.read() if one.name == "istio_requests_total"]
    return {one.label_values[place]: values[0] for one, values in series}


def agree(registry: Registry | TableReader, plain: Plain, most: int) -> None:
    """Every series has what belongs to it, and what has none of its own is in the one for others."""
    found = {(one.name, one.label_values): values for one, values in registry.read() if one.name.startswith("istio_")}
    rest = defaultdict(lambda: defaultdict(float))
    kept = defaultdict(int)
    for (name, labels), numbers in plain.counted.items():
        if (name, labels) in found:
            kept[name] += 1
            assert found.pop((name, labels)) == pytest.approx([numbers[n] for n in range(len(numbers_of(name)))])
        else:
            for place, number in numbers.items():
                rest[name][place] += number
    for name in {name for name, _ in plain.counted}:
        distinct = sum(name == one for one, _ in plain.counted)
        assert kept[name] == min(distinct, most)
        others = [values for (one, labels), values in found.items() if one == name and set(labels) == {"other"}]
        assert others == ([pytest.approx([rest[name][n] for n in range(len(numbers_of(name)))])] if rest[name] else [])
        lost = [values for one, values in registry.read() if one.label_values == (name,)]
        assert bool(lost) == bool(rest[name])


def numbers_of(name: str) -> range:
    return range(1 if name == "istio_requests_total" else len(BUCKETS) + 2)


@pytest.mark.parametrize(("most", "facts", "dropped"), [
    (1_000, 20_000, ()),
    (3, 20_000, ()),  # most sets have no series of their own
    (1_000, 6, ("source_app", "reporter")),  # the decoder forgets, so that its keys come to mean others
])  # fmt: skip
@pytest.mark.parametrize("room", [0, 10_000])
@given(slices=SLICES)
@settings(deadline=None, max_examples=60)
def test_every_slice_is_counted_as_its_rows_are_one_by_one(most, facts, dropped, room, slices):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_parties, "_MOST", facts)
        patch.setattr("mixer_py.telemetry.label_sets._LEAST_ROOM", room)
        decoder, registry, plain = AccessLogDecoder(FakeClock()), Registry(), Plain()
        metrics = IstioMetrics(registry, PrometheusSettings(max_label_sets=most, drop_labels=dropped))
        for mask, entries in slices:
            if mask is not None:
                decoder.activate(Privacy(mask=MASKS[mask]), RowMask(MASKS[mask]))
            decoded = decoder.decode([(message([entry]), identity) for identity, entry in entries])
            metrics.count_requests(decoded.requests, decoded.alike)
            plain.count(rows_of(decoded), dropped)
        agree(registry, plain, most)


def test_who_is_masked_in_another_way_is_counted_under_another_name():
    decoder, registry = AccessLogDecoder(FakeClock()), Registry()
    metrics = IstioMetrics(registry)
    for mask in MASKS[:2]:
        decoder.activate(Privacy(mask=mask), RowMask(mask))
        decoded = decoder.decode([(message([PLAIN | {"cluster": "outbound|80||s.b"}]), ANONYMOUS)] * 2)
        metrics.count_requests(decoded.requests, decoded.alike)
    assert counted_by(registry, "destination_service") == {"s.b": 2.0, MASKED: 2.0}


def test_a_key_that_comes_to_stand_for_another_service_is_looked_up_anew(monkeypatch):
    monkeypatch.setattr(known_parties, "_MOST", 2)
    decoder, registry = AccessLogDecoder(FakeClock()), Registry()
    metrics = IstioMetrics(registry)
    for number in (0, 1, 2, 3, 0):
        decoded = decoder.decode([(message([PLAIN | {"cluster": f"outbound|80||s{number}"}]), ANONYMOUS)])
        metrics.count_requests(decoded.requests, decoded.alike)
    assert counted_by(registry, "destination_service") == {"s0": 2.0, "s1": 1.0, "s2": 1.0, "s3": 1.0}


def test_a_set_that_came_before_is_found_without_its_texts(monkeypatch):
    entries = [PLAIN | {"cluster": f"outbound|80||s{number}.b.svc.cluster.local"} for number in range(50)]
    decoder, registry = AccessLogDecoder(FakeClock()), Registry()
    metrics = IstioMetrics(registry)
    for number in range(3):
        if number:
            monkeypatch.setattr(metrics._labels, "_find", None)
        decoded = decoder.decode([(message(entries), ANONYMOUS)])
        metrics.count_requests(decoded.requests, decoded.alike)
    assert set(counted_by(registry, "destination_service").values()) == {3.0}


def test_a_batch_is_counted_where_another_process_reads_it(tmp_path):
    table = Table(tmp_path / "t")
    decoder, registry, plain = AccessLogDecoder(FakeClock()), Registry(table), Plain()
    metrics = IstioMetrics(registry)
    entries = [PLAIN | {"cluster": f"c{number % 3}", "micros": number, "size": number} for number in range(20)]
    for _ in range(3):
        decoded = decoder.decode([(message(entries), ANONYMOUS)])
        metrics.count_requests(decoded.requests, decoded.alike)
        plain.count(rows_of(decoded), ())
    reader = TableReader(tmp_path / "t")
    agree(reader, plain, 10_000)
    reader.close()
    table.close()
