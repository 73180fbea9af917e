from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.instruments import Registry, Table, TableReader


def test_a_counter_adds_and_a_gauge_replaces() -> None:
    registry = Registry()
    counter = registry.counter("c_total", "C.", ("a",)).labels("x")
    gauge = registry.gauge("g", "G.").labels()
    counter.add()
    counter.add(2.5)
    gauge.set(7)
    gauge.set(3)
    assert (counter.value, gauge.value) == (3.5, 3.0)


def test_the_same_label_values_are_the_same_cell() -> None:
    family = Registry().counter("c_total", "C.", ("a", "b"))
    assert family.labels("1", "2") is family.labels("1", "2")
    assert family.labels("1", "2") is not family.labels("2", "1")


def test_the_same_name_is_the_same_family_unless_it_means_something_else() -> None:
    registry = Registry()
    assert registry.counter("c_total", "C.", ("a",)) is registry.counter("c_total", "C.", ("a",))
    with pytest.raises(ValueError, match="declared twice"):
        registry.counter("c_total", "C.", ("b",))
    with pytest.raises(ValueError, match="declared twice"):
        registry.gauge("c_total", "C.", ("a",))


def test_wrong_number_of_label_values_is_refused() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Registry().counter("c_total", "C.", ("a",)).labels()


def test_above_the_cap_everything_goes_into_one_other_series() -> None:
    family = Registry().counter("c_total", "C.", ("a",), max_label_sets=2)
    for value in ("1", "2", "3", "4"):
        family.labels(value).add()
    assert family.labels("other").value == 2.0
    assert family.labels("1").value == 1.0


@given(st.lists(st.floats(0, 1000), max_size=50), st.lists(st.floats(0.001, 900), min_size=1, max_size=8, unique=True))
def test_a_histogram_counts_each_value_in_the_first_bucket_that_holds_it(
    values: list[float], bounds: list[float]
) -> None:
    ordered = tuple(sorted(bounds))
    registry = Registry()
    histogram = registry.histogram("h", "H.", bounds=ordered).labels()
    for value in values:
        histogram.observe(value)
    ((_, numbers),) = registry.read()
    for index, bound in enumerate(ordered):
        assert sum(numbers[: index + 1]) == sum(value <= bound for value in values)
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))


def test_another_process_reads_what_was_counted_before_a_kill(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from mixer_py.instruments import Registry, Table
registry = Registry(Table(Path(sys.argv[1])))
registry.counter("c_total", "C.", ("a",)).labels('with "quotes"\\nand lines').add(41)
registry.histogram("h", "H.", bounds=(1.0,)).labels().observe(0.5)
registry.counter("c_total", "C.", ("a",)).labels('with "quotes"\\nand lines').add()
os.kill(os.getpid(), signal.SIGKILL)
"""
    Table(tmp_path / "t").close()
    reader = TableReader(tmp_path / "t")
    assert reader.read() == []
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "t")], check=False)
    assert [(series.kind, dict(series.labels), values) for series, values in reader.read()] == [
        ("counter", {"a": 'with "quotes"\nand lines'}, (42.0,)),
        ("histogram", {}, (1.0, 0.0, 0.5)),
    ]
    reader.close()


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    table = Table(tmp_path / "t", capacity=8)
    reader = TableReader(tmp_path / "t")
    series = table.declare("counter", "c_total", "C.", (), ())
    assert series is not None
    line = series.to_line()
    path = (tmp_path / "t").with_suffix(".series")
    assert path.read_text() == line
    with path.open("a") as file:
        file.write(line[:10])
        file.flush()
        assert len(reader.read()) == 1
        file.write(line[10:])
    assert len(reader.read()) == 2
    reader.close()
    table.close()


def test_a_full_table_falls_back_to_the_other_series(tmp_path: Path) -> None:
    table = Table(tmp_path / "t", capacity=192)
    registry = Registry(table)
    family = registry.counter("c_total", "C.", ("a",))
    for index in range(1000):
        family.labels(str(index)).add()
    assert family.labels("other").value == 1000 - 189
    assert registry.counter("mixer_series_overflow_total", "", ("metric",)).labels("c_total").value == 1000 - 189
    registry.counter("late_total", "L.").labels().add()
    table.close()


def test_what_overflows_is_not_remembered() -> None:
    family = Registry().counter("c_total", "C.", ("a",), max_label_sets=10)
    for index in range(1000):
        family.labels(str(index))
    assert len(family._cells) == 11
