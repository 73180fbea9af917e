"""Istio's metrics, counted by group, are what counting row by row gives."""

from __future__ import annotations

from collections import Counter as Tally

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.instruments import Registry
from mixer_py.telemetry.columns import REQUESTS
from mixer_py.telemetry.istio_metrics import IstioMetrics
from mixer_py.telemetry.istio_names import BUCKETS, LABELS
from mixer_py.telemetry.settings import BucketSettings, PrometheusSettings

HISTOGRAMS = {
    "istio_request_duration_milliseconds": lambda row: row["response_duration"] / 1000,
    "istio_request_bytes": lambda row: row["request_total_size"],
    "istio_response_bytes": lambda row: row["response_total_size"],
}
DEFAULTS = {column.name: column.kind.default for column in REQUESTS.columns} | {
    "reporter": "destination", "context_protocol": "http", "response_flags": "-",
}  # fmt: skip


def batch(rows) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([DEFAULTS | row for row in rows], schema=REQUESTS.schema)


def read(registry) -> dict[tuple[str, tuple[str, ...]], tuple[float, ...]]:
    return {(series.name, tuple(value for _, value in series.labels)): numbers for series, numbers in registry.read()}


def labels_of(**row) -> dict[str, str]:
    registry = Registry()
    IstioMetrics(registry).count_requests(batch([row]))
    ((_, values),) = [key for key in read(registry) if key[0] == "istio_requests_total"]
    return dict(zip(LABELS, values, strict=True))


def test_labels_and_buckets_are_istios():
    assert LABELS == (
        "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
        "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
        "destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
        "destination_version", "destination_service", "destination_canonical_service",
        "destination_canonical_revision", "destination_service_name", "destination_service_namespace",
        "destination_cluster", "request_protocol", "response_code", "grpc_response_status", "response_flags",
        "connection_security_policy",
    )  # fmt: skip
    assert (len(LABELS), len(BUCKETS)) == (25, 19)
    registry = Registry()
    IstioMetrics(registry).count_requests(batch([{}]))
    assert {series.name: series.bounds for series, _ in registry.read()} == {
        "istio_requests_total": (), **dict.fromkeys(HISTOGRAMS, BUCKETS)
    }  # fmt: skip


def test_what_is_not_known_has_istios_word_for_it():
    labels = labels_of(response_code=0)
    revisions = ("source_canonical_revision", "destination_canonical_revision")
    assert {labels[name] for name in revisions} == {"latest"}
    assert {
        name: value for name, value in labels.items() if value not in {"unknown", "latest"}
    } == {
        "reporter": "destination", "request_protocol": "http", "response_code": "0", "grpc_response_status": "",
        "response_flags": "-", "connection_security_policy": "none",
    }  # fmt: skip


def test_what_is_known_stands_in_its_label():
    values = {
        "reporter": "waypoint", "source_workload_name": "a", "source_canonical_service": "b",
        "source_canonical_revision": "c", "source_workload_namespace": "d", "source_principal": "spiffe://e",
        "source_app": "f", "source_version": "g", "source_cluster": "h", "destination_workload_name": "i",
        "destination_workload_namespace": "j", "destination_principal": "spiffe://k", "destination_app": "l",
        "destination_version": "m", "destination_service_host": "n", "destination_canonical_service": "o",
        "destination_canonical_revision": "p", "destination_service_name": "q", "destination_service_namespace": "r",
        "destination_cluster": "s", "context_protocol": "grpc", "response_code": 503, "response_grpc_status": "14",
        "response_flags": "UF,URX", "connection_mtls": True,
    }  # fmt: skip
    assert list(labels_of(**values).values()) == [
        "waypoint", "a", "b", "c", "d", "spiffe://e", "f", "g", "h", "i", "j", "spiffe://k", "l", "m", "n", "o", "p",
        "q", "r", "s", "grpc", "503", "14", "UF,URX", "mutual_tls",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reporter", "mtls", "policy"),
    [
        ("source", True, "unknown"),
        ("source", False, "unknown"),
        ("destination", True, "mutual_tls"),
        ("destination", False, "none"),
    ],
)
def test_a_source_does_not_know_the_security_policy(reporter, mtls, policy):
    assert labels_of(reporter=reporter, connection_mtls=mtls)["connection_security_policy"] == policy


def test_a_principal_that_is_no_uri_is_none_that_istio_knows():
    assert labels_of(source_principal="CN=client")["source_principal"] == "unknown"


rows = st.lists(
    st.fixed_dictionaries(
        {
            "reporter": st.sampled_from(["source", "destination"]),
            "source_workload_name": st.sampled_from(["", "a", "b"]),
            "destination_service_host": st.sampled_from(["", "x", "y", "other"]),
            "response_code": st.sampled_from([0, 200, 403, 429, 503]),
            "response_flags": st.sampled_from(["-", "UAEX", "UF,URX"]),
            "connection_mtls": st.booleans(),
            "response_duration": st.one_of(
                st.integers(0, 10**7),
                st.sampled_from([int(bound * 1000) + step for bound in BUCKETS for step in (-1, 0, 1)]),
            ),
            "request_total_size": st.one_of(st.integers(0, 10**5), st.sampled_from([1, 5, 10, 2**53])),
            "response_total_size": st.integers(0, 10**5),
        }
    ),
    max_size=30,
)


@given(st.lists(rows, max_size=3))
@settings(deadline=None)
def test_groups_count_as_rows_do(batches):
    registry = Registry()
    metrics = IstioMetrics(registry)
    for part in batches:
        metrics.count_requests(batch(part))
    found = read(registry)
    one_by_one = Registry()
    reference = IstioMetrics(one_by_one)
    for part in batches:
        for row in part:
            reference.count_requests(batch([row]))
    alone = read(one_by_one)
    assert set(found) == set(alone)
    for key, numbers in found.items():
        assert numbers == pytest.approx(alone[key], rel=1e-12)

    everything = [row for part in batches for row in part]
    requests = {key: numbers for key, numbers in found.items() if key[0] == "istio_requests_total"}
    assert sum(numbers[0] for numbers in requests.values()) == len(everything)
    for name, value_of in HISTOGRAMS.items():
        # A bucket includes its upper bound.
        places = Tally(next((n for n, bound in enumerate(BUCKETS) if value_of(row) <= bound), 19) for row in everything)
        counted = [0.0] * 20
        total = 0.0
        for (metric, _), numbers in found.items():
            if metric == name:
                counted = [sum(pair) for pair in zip(counted, numbers[:-1], strict=True)]
                total += numbers[-1]
        assert counted == [places[n] for n in range(20)]
        assert total == pytest.approx(sum(map(value_of, everything)))


def test_more_combinations_than_64_bits_can_number_are_told_apart():
    # 256 values in each of many columns: the first column's share is shifted out of a number of 64 bits.
    names = [column.name for column in REQUESTS.columns if column.name.startswith("destination_")
             and column.kind.arrow == pa.string() and not column.name.endswith("_ip")]  # fmt: skip
    assert len(names) > 8
    rows = [
        dict.fromkeys(names, f"spiffe://{number}") | {"source_workload_name": caller}
        for number in range(256)
        for caller in ("first", "second", "second")
    ]
    registry = Registry()
    IstioMetrics(registry).count_requests(batch(rows))
    counted = [numbers[0] for (name, _), numbers in read(registry).items() if name == "istio_requests_total"]
    assert sorted(counted) == [1.0] * 256 + [2.0] * 256


@pytest.mark.parametrize(("place", "bound"), list(enumerate(BUCKETS)))
def test_a_bucket_includes_its_upper_bound(place, bound):
    registry = Registry()
    IstioMetrics(registry).count_requests(batch([{"response_duration": round(bound * 1000) + step} for step in (0, 1)]))
    counts = next(numbers for key, numbers in read(registry).items() if key[0] == "istio_request_duration_milliseconds")
    assert [number for number, count in enumerate(counts[:-1]) if count] == [place, place + 1]


def test_label_sets_are_capped_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr("mixer_py.telemetry.label_sets._LEAST_ROOM", 0)
    registry = Registry()
    metrics = IstioMetrics(registry, PrometheusSettings(max_label_sets=100))
    for start in range(0, 300, 60):
        metrics.count_requests(batch({"destination_service_host": str(number)} for number in range(start, start + 60)))
    counted = {key[1]: n for key, n in read(registry).items() if key[0] == "istio_requests_total"}
    assert len(counted) == 101
    assert sum(numbers[0] for numbers in counted.values()) == 300
    assert counted[("other",) * 25] == (200.0,)
    assert read(registry)["mixer_series_overflow_total", ("istio_requests_total",)] == (200.0,)


@pytest.mark.parametrize("dropped", [{"response_flags"}, {"reporter", "source_app"}, set(LABELS)])
def test_a_label_that_is_left_out_makes_no_series_and_loses_no_count(dropped):
    rows = [
        {"reporter": reporter, "response_flags": flags, "source_app": app, "connection_mtls": reporter != "source"}
        for reporter in ("source", "destination") for flags in ("-", "UF") for app in ("a", "b")
    ]  # fmt: skip
    whole, less = Registry(), Registry()
    IstioMetrics(whole).count_requests(batch(rows))
    IstioMetrics(less, PrometheusSettings(drop_labels=tuple(dropped))).count_requests(batch(rows))
    kept = [place for place, name in enumerate(LABELS) if name not in dropped]
    wanted: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for (name, values), numbers in read(whole).items():
        key = name, tuple(values[place] for place in kept)
        wanted[key] = [sum(pair) for pair in zip(wanted.get(key, [0] * len(numbers)), numbers, strict=True)]
    assert {key: list(numbers) for key, numbers in read(less).items()} == wanted


def test_buckets_are_as_they_are_set():
    registry = Registry()
    buckets = BucketSettings(istio_request_bytes=(100.0, 200.0))
    rows = [{"request_total_size": size} for size in (99, 100, 101, 200, 201)]
    IstioMetrics(registry, PrometheusSettings(buckets=buckets)).count_requests(batch(rows))
    found = {series.name: (series.bounds, numbers) for series, numbers in registry.read()}
    assert found["istio_request_bytes"] == ((100.0, 200.0), (2, 2, 1, 701))
    assert found["istio_response_bytes"][0] == BUCKETS


def test_a_label_of_a_megabyte_is_cut_and_not_remembered():
    registry = Registry()
    metrics = IstioMetrics(registry)
    for number in range(3):
        metrics.count_requests(batch([{"destination_service_host": "x" * 1_000_000 + str(number)}]))
    counted = [(key, numbers) for key, numbers in read(registry).items() if key[0] == "istio_requests_total"]
    (((_, values), numbers),) = counted
    assert (values[LABELS.index("destination_service")], numbers) == ("x" * 256, (3.0,))
    assert all(not one.numbers for one in metrics._labels._remembered.values())
    assert len(metrics._labels.texts) == 1


def test_nothing_counts_nothing():
    registry = Registry()
    IstioMetrics(registry).count_requests(batch([]))
    assert registry.read() == []


def test_messages_of_grpc_are_added_up_and_make_no_series_where_there_are_none():
    registry = Registry()
    rows = [{"request_messages": 3, "response_messages": 1}, {"request_messages": 4}, {"source_app": "silent"}]
    IstioMetrics(registry).count_requests(batch(rows))
    counted = {key[0]: numbers for key, numbers in read(registry).items() if "messages" in key[0]}
    assert counted == {"istio_request_messages_total": (7.0,), "istio_response_messages_total": (1.0,)}
