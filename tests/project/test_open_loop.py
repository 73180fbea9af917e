"""Latencies of `make bench-envoy` count from the moment at which a request was due, not from when it was sent."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from tests.parts.presence import ROOT

BEGAN = 1_795_875_899_000_000_000
SECOND = 1_000_000_000


@pytest.fixture
def open_loop(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("open_loop")


def line(number: int, sent: float, took: float, status: int = 200, error: str = "") -> str:
    """As vegeta writes it: when a request was sent and how long it took, in seconds."""
    return f"{BEGAN + round(sent * SECOND)},{status},{round(took * SECOND)},0,0,{error},,,{number},GET,http://x/,"


def test_a_request_that_was_sent_late_is_as_late_as_it_was_due(open_loop):
    rows = [line(0, 0.0, 0.001), line(1, 0.1, 0.001), line(2, 0.5, 0.001), line(3, 0.5, 0.001)]
    sent = open_loop.read("\n".join(rows), rate=10)  # the third was due at 0.2 s, the fourth at 0.3 s
    assert sent.requests == 4
    assert sent.latency["p50"] == pytest.approx(201, abs=0.1)
    assert sent.latency["p99.9"] == pytest.approx(301, abs=0.1)
    assert sent.client == pytest.approx(300, abs=0.1)


def test_lines_may_come_in_any_order(open_loop):
    rows = [line(number, number / 100, 0.002) for number in range(100)]
    assert open_loop.read("\n".join(reversed(rows)), rate=100) == open_loop.read("\n".join(rows), rate=100)


def test_what_is_not_answered_with_200_has_failed(open_loop):
    rows = [line(0, 0.0, 0.1), line(1, 0.1, 0.1, 403, "403 Forbidden"), line(2, 0.2, 0.1, 0, "connection refused")]
    sent = open_loop.read("\n".join(rows), rate=10)
    assert sent.failed == {"403 Forbidden": 1, "connection refused": 1}


def test_nothing_sent_is_no_result(open_loop):
    with pytest.raises(SystemExit, match="sent nothing"):
        open_loop.read("", rate=10)
