"""What every room counts with: counters, gauges, histograms and clocks; no network, no logging."""

from mixer_py.instruments.clock import Clock, FakeClock, SystemClock
from mixer_py.instruments.metrics import LATENCY_SECONDS, Cell, Counter, Family, Gauge, Histogram, Registry
from mixer_py.instruments.table import Reading, SeriesDeclaration, Table, TableReader

__all__ = [
    "LATENCY_SECONDS",
    "Cell",
    "Clock",
    "Counter",
    "FakeClock",
    "Family",
    "Gauge",
    "Histogram",
    "Reading",
    "Registry",
    "SeriesDeclaration",
    "SystemClock",
    "Table",
    "TableReader",
]
