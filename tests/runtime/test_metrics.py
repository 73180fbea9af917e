from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mixer_py.instruments import FakeClock, Registry
from mixer_py.runtime.metrics import IdleSeries, ProcessMetrics
from mixer_py.runtime.vital_signs import VitalSigns
from mixer_py.telemetry.booking import rows_on_disk

ROWS = ("mixer_rows_total", "Rows.", ("table", "state", "reason"))


def samples(metrics: ProcessMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
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
