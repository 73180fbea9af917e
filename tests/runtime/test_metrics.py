from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from mixer_py.instruments import FakeClock, Registry, Table, TableReader
from mixer_py.runtime.metrics import IdleSeries, ProcessMetrics
from mixer_py.runtime.vital_signs import VitalSigns
from mixer_py.telemetry.booking import gathered_rows, rows_on_disk

ROWS = ("mixer_rows_total", "Rows.", ("table", "state", "reason"))


def samples(metrics: ProcessMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return read(b"".join(metrics.exposition()))


def read(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_processes_are_added_up() -> None:
    own, first, second = Registry(), Registry(), Registry()
    metrics = ProcessMetrics(own)
    for registry in (first, second):
        metrics.join(registry)
        registry.counter("c_total", "C.", ("a",)).labels("x").add(2)
        registry.gauge("g", "G.").labels().set(5)
        registry.histogram("h", "H.", bounds=(1.0, 2.0)).labels().observe(1.5)
    own.counter("own_total", "O.").labels().add()
    found = samples(metrics)
    assert found["c_total", (("a", "x"),)] == 4
    assert found["g", ()] == 10
    assert found["h_bucket", (("le", "1.0"),)] == 0
    assert found["h_bucket", (("le", "2.0"),)] == 2
    assert found["h_bucket", (("le", "+Inf"),)] == 2
    assert (found["h_count", ()], found["h_sum", ()]) == (2, 3.0)
    assert found["own_total", ()] == 1


def test_counters_never_go_back_when_a_process_ends_and_its_gauges_go_with_it() -> None:
    metrics = ProcessMetrics(Registry())
    for generation in range(3):
        worker = Registry()
        metrics.join(worker)
        worker.counter("c_total", "C.").labels().add(10)
        worker.gauge("g", "G.").labels().set(1)
        assert samples(metrics)["c_total", ()] == 10 * (generation + 1)
        assert samples(metrics)["g", ()] == 1
        metrics.leave(worker)
        assert samples(metrics)["c_total", ()] == 10 * (generation + 1)
        assert ("g", ()) not in samples(metrics)


def test_rows_that_an_ended_process_held_are_booked_as_killed() -> None:
    metrics = ProcessMetrics(Registry())
    worker = Registry()
    metrics.join(worker)
    rows = worker.counter(*ROWS)
    rows.labels("requests", "received", "").add(100)
    rows.labels("requests", "written", "").add(60)
    rows.labels("requests", "dropped", "malformed").add(5)
    rows.labels("decisions", "received", "").add(7)
    rows.labels("decisions", "written", "").add(7)
    metrics.leave(worker)
    found = samples(metrics)
    killed = {dict(labels)["table"]: value for (_, labels), value in found.items() if ("reason", "killed") in labels}
    assert killed == {"requests": 35}


@pytest.mark.parametrize(
    ("received", "written", "on_disk", "left", "killed"),
    [
        (100, 60, 30, 30, 10),  # 10 more were in memory
        (100, 60, 40, 40, 0),
        (100, 100, 20, 0, 0),  # a block was written and counted, and the gauge not yet set anew
        (100, 90, 20, 10, 0),
        (100, 60, 0, 0, 40),  # rows that were put on disk and not yet shown; who finds them there adopts them
    ],
)
def test_rows_that_an_ended_process_had_on_disk_are_booked_as_left(received, written, on_disk, left, killed) -> None:
    metrics = ProcessMetrics(Registry())
    worker = Registry()
    metrics.join(worker)
    rows = worker.counter(*ROWS)
    rows.labels("requests", "received", "").add(received)
    rows.labels("requests", "written", "").add(written)
    rows_on_disk(worker, "requests").set(on_disk)
    metrics.leave(worker)
    found = {labels: value for (name, labels), value in samples(metrics).items() if name == "mixer_rows_total"}
    of = {(dict(labels)["state"], dict(labels)["reason"]): value for labels, value in found.items()}
    assert of.get(("left", ""), 0) == left
    assert of.get(("dropped", "killed"), 0) == killed


def test_what_an_ended_process_was_making_into_rows_is_booked_as_received_and_killed() -> None:
    metrics = ProcessMetrics(Registry())
    worker = Registry()
    metrics.join(worker)
    rows = worker.counter(*ROWS)
    rows.labels("decisions", "received", "").add(10)
    rows.labels("decisions", "written", "").add(8)
    gathered_rows(worker, "decisions").set(3)
    metrics.leave(worker)
    found = {(labels["state"], labels["reason"]): rows for labels, rows in metrics.values("mixer_rows_total")}
    assert found == {("received", ""): 13, ("written", ""): 8, ("dropped", "killed"): 5}


def test_vital_signs_stay_between_the_processes() -> None:
    worker = Registry()
    VitalSigns(worker).beat()
    metrics = ProcessMetrics(Registry())
    metrics.join(worker)
    assert samples(metrics) == {}


def test_label_values_from_the_wire_cannot_break_the_text() -> None:
    worker = Registry()
    metrics = ProcessMetrics(worker)
    nasty = 'a"b\\c\nd{}#, \x00 ü'
    worker.counter("c_total", "C.", ("a",)).labels(nasty).add()
    assert samples(metrics)["c_total", (("a", nasty),)] == 1


def test_a_series_of_traffic_that_has_ended_is_not_shown_and_goes_on_when_it_comes_again() -> None:
    registry, clock = Registry(), FakeClock()
    metrics = ProcessMetrics(registry, IdleSeries(clock, lambda: 60.0))
    requests = registry.counter("istio_requests_total", "R.", ("destination",))
    gone, stays = requests.labels("gone"), requests.labels("stays")
    registry.counter("mixer_checks_total", "C.").labels().add(1)
    gone.add(5)
    shown = []
    for _ in range(3):
        stays.add(1)
        shown.append({labels[0][1] for name, labels in samples(metrics) if name == "istio_requests_total"})
        clock.advance(31)
    gone.add(1)
    stays.add(1)
    found = samples(metrics)
    assert shown == [{"gone", "stays"}] * 2 + [{"stays"}]
    assert found["istio_requests_total", (("destination", "gone"),)] == 6
    assert found["mixer_checks_total", ()] == 1


def test_a_histogram_is_idle_when_no_bucket_has_changed() -> None:
    registry, clock = Registry(), FakeClock()
    metrics = ProcessMetrics(registry, IdleSeries(clock, lambda: 60.0))
    registry.histogram("istio_request_bytes", "B.", bounds=(1.0,)).labels().observe(0)
    assert samples(metrics)
    clock.advance(61)
    assert not samples(metrics)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.floats(0, 1e12)


@given(TEXT, st.lists(st.tuples(TEXT, NUMBER, st.lists(NUMBER, min_size=3, max_size=3)), unique_by=lambda one: one[0]))
def test_the_text_says_what_prometheus_own_client_says(documentation, members):
    registry, theirs = Registry(), CollectorRegistry(auto_describe=False)
    counter = CounterMetricFamily("c", documentation, labels=["a", "b"])
    gauge = GaugeMetricFamily("g", documentation)
    histogram = HistogramMetricFamily("h", documentation, labels=["a"])
    gauge.add_metric([], len(members))
    registry.gauge("g", documentation).labels().set(len(members))
    for label, number, counts in members:
        registry.counter("c_total", documentation, ("a", "b")).labels(label, "x").add(number)
        counter.add_metric([label, "x"], number)
        cell = registry.histogram("h", documentation, ("a",), bounds=(0.5, 1000000.0)).labels(label)
        for place, count in enumerate((*counts, number)):
            registry.table.values[cell.first + place] += count
        sums = [counts[0], counts[0] + counts[1], counts[0] + counts[1] + counts[2]]
        histogram.add_metric([label], list(zip(("0.5", "1e+06", "+Inf"), sums, strict=True)), number)
    for family in (counter, gauge, histogram) if members else (gauge,):
        theirs.register(Collected(family))
    ours = b"".join(ProcessMetrics(registry).exposition())
    assert read(ours) == read(generate_latest(theirs))
    heads = [line for line in ours.splitlines() if line.startswith(b"#")]
    assert heads == [line for line in generate_latest(theirs).splitlines() if line.startswith(b"#")]


class Collected:
    def __init__(self, family):
        self.family = family

    def collect(self):
        return [self.family]


def test_with_as_many_label_sets_as_a_metric_may_have_every_one_is_in_the_text(tmp_path):
    most = 10_000
    table = Table(tmp_path / "worker")
    worker = Registry(table)
    requests = worker.counter("istio_requests_total", "R.", ("a", "b"), max_label_sets=most)
    sizes = worker.histogram("istio_request_bytes", "B.", ("a", "b"), bounds=(1.0, 10.0), max_label_sets=most)
    for number in range(most + 5):
        requests.labels("x", f"{number}").add(number)
        sizes.labels("x", f"{number}").observe(number)
    metrics = ProcessMetrics(Registry(), IdleSeries(FakeClock(), lambda: 60.0))
    reader = TableReader(tmp_path / "worker")
    metrics.join(reader)
    pieces = list(metrics.exposition())
    reader.close()
    table.close()
    assert max(map(len, pieces)) < len(b"".join(pieces)) / 2
    found = read(b"".join(pieces))
    for number in range(most):
        labels = (("a", "x"), ("b", f"{number}"))
        assert found["istio_requests_total", labels] == number
        assert found["istio_request_bytes_sum", labels] == number
        assert found["istio_request_bytes_count", labels] == 1
        assert found["istio_request_bytes_bucket", (*labels, ("le", "10.0"))] == (number <= 10)
    other = (("a", "other"), ("b", "other"))
    assert found["istio_requests_total", other] == sum(range(most, most + 5))
    assert found["istio_request_bytes_count", other] == 5
    assert len(found) == (most + 1) * (1 + 5) + 2  # and what overflowed, by metric


def test_processes_may_come_and_go_between_two_pieces_of_the_text():
    metrics = ProcessMetrics(Registry())
    workers = [Registry() for _ in range(3)]
    for worker in workers:
        for number in range(2_500):
            worker.counter("c_total", "C.", ("a",)).labels(f"{number}").add(1)
        worker.gauge("g", "G.").labels().set(1)
    for worker in workers[:2]:
        metrics.join(worker)
    pieces = metrics.exposition()
    begun = next(piece for piece in pieces if piece)
    metrics.leave(workers[0])
    metrics.join(workers[2])
    found = read(begun + b"".join(pieces))
    assert {value for (name, _), value in found.items() if name == "c_total"} == {2}  # the third came too late
    after = samples(metrics)
    assert {value for (name, _), value in after.items() if name == "c_total"} == {3}
    assert after["g", ()] == 2


def test_a_worker_that_counts_by_other_bounds_starts_anew_and_the_one_before_is_no_longer_shown():
    metrics, before, after = ProcessMetrics(Registry()), Registry(), Registry()
    before.histogram("h", "H.", bounds=(1.0, 2.0)).labels().observe(1)
    after.histogram("h", "H.", bounds=(1.0, 5.0)).labels().observe(4)
    metrics.join(before)
    metrics.join(after)
    metrics.leave(before)
    found = samples(metrics)
    assert {dict(labels)["le"]: value for (name, labels), value in found.items() if name == "h_bucket"} == {
        "1.0": 0, "5.0": 1, "+Inf": 1,
    }  # fmt: skip


def test_a_total_is_over_all_processes_and_zero_for_what_nobody_counts():
    metrics, worker = ProcessMetrics(Registry()), Registry()
    metrics.join(worker)
    for label in ("x", "y"):
        worker.counter("c_total", "C.", ("a",)).labels(label).add(2)
    assert (metrics.total("c_total"), metrics.total("other_total")) == (4, 0)
