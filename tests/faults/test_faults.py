"""The table of faults: it is whole, its promises were kept, and a short form of it is injected anew."""

from __future__ import annotations

import pytest

from tests.faults.fault import Seen, While
from tests.faults.page import WHOLE, cells, merged, whole_run
from tests.faults.report import FAULTS, PAGE, THEMSELVES, run
from tests.faults.setups import SETUPS

SHORT = {
    "worker hung while it starts",
    "worker killed that is to take over",
    "a policy that panics",
    "a reload; SIGTERM meanwhile",
    "the clock set forward an hour, and back",
    "the clock set back an hour, and forward",
}
"""What CI injects: of each kind something that no other test proves under load."""
AT_ONCE = {
    "Envoy told to end and started",
    "a second mixer on the same port",
    "a torn spool after a kill",
    "candidate killed when it first starts",
    *(
        f"{child} {what} while mixer drains"
        for child in ("worker", "store", "embedded Valkey", "candidate", "worker inside an Envoy")
        for what in ("killed", "hung", "told to end")
    ),
}
"""What is over as soon as it is injected, or ends mixer."""


def test_there_are_at_least_forty_faults_each_with_a_name_of_its_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 300
    assert {fault.setup for fault in FAULTS} == set(SETUPS)


def test_each_fault_is_injected_once_more_with_a_sigterm_in_it_but_those_that_end_mixer_themselves():
    without = {fault.name for fault in THEMSELVES if not isinstance(fault.inject, While)}
    assert {fault.name for fault in FAULTS if fault.name.endswith("; SIGTERM meanwhile")} == {
        f"{fault.name}; SIGTERM meanwhile" for fault in THEMSELVES if fault.name not in without
    }
    end_by_it = ("supervisor", "SIGTERM", "restart")
    assert {name for name in without if not any(word in name for word in end_by_it)} == AT_ONCE


def test_the_page_tells_of_each_in_their_order_and_every_promise_was_kept():
    rows = [cells(line) for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    assert [(row[0], row[1], row[-1]) for row in rows] == [(fault.name, fault.promise, "yes") for fault in FAULTS]


def test_the_page_is_as_it_would_be_written():
    text = PAGE.read_text(encoding="utf-8")
    assert merged(text, ()).render([fault.name for fault in FAULTS]) == text


def test_a_fault_injected_by_itself_replaces_its_row_and_says_so():
    first, second, third = FAULTS[:3]
    kept, broken = Seen(9, 0, 0.0, 0.1), Seen(9, 9, 0.0, 0.1, broken=("it did not heal",))
    order = [fault.name for fault in (first, second, third)]
    text = whole_run([(third, kept), (first, broken)], 90).render(order)
    assert f"Not kept: {first.name}.\n1 faults of the table have not been injected yet.\n2 faults" in text
    text = merged(text, [(second, kept)]).render(order)
    assert f"Not kept: {first.name}.\n2 faults were injected in the whole run, and 1 by themselves" in text
    text = merged(text, [(first, kept)]).render(order)
    assert "All 3 promises were kept.\n1 faults were injected in the whole run, and 2 by themselves" in text
    rows = [cells(line) for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == order
    assert [row[-2] == WHOLE for row in rows] == [False, False, True]


@pytest.mark.long(2)
@pytest.mark.envoy
@pytest.mark.chdb
@pytest.mark.gcc
def test_the_promises_of_the_short_form_are_kept():
    results = list(run(fault for fault in FAULTS if fault.name in SHORT))
    assert {fault.name for fault, _ in results} == SHORT
    assert {fault.name: seen.broken for fault, seen in results if seen.broken} == {}
