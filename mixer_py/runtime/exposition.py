"""Series as the text that Prometheus scrapes (exposition format 0.0.4): how one series is spelt.

A series' labels are spelt once in its life; with each scrape only numbers are. With 10,000 label sets a metric that
text has hundreds of megabytes, of which nine tenths are labels.
Not for: which series there are, and what they count (`metrics.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.utils import floatToGoString

from mixer_py.instruments import SeriesDeclaration

_LABELS: Final = b"\0"
"""Where the labels go in a form; no name has it."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})

Spell = Callable[[bytes, Sequence[float]], bytes]
"""The lines of a series, from its labels as `labels_of` spells them, and its doubles."""


def head_of(series: SeriesDeclaration) -> bytes:
    """What stands before the lines of a metric: its help and its type."""
    text = series.documentation.translate(_HELP_ESCAPES)
    return f"# HELP {series.name} {text}\n# TYPE {series.name} {series.kind}\n".encode()


def labels_of(series: SeriesDeclaration) -> bytes:
    """A series' labels, without braces; empty when it has none."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in series.labels).encode()


def spelling_of(series: SeriesDeclaration) -> Spell:
    """How series of this name, kind and bounds are spelt."""
    if series.kind == "histogram":
        return _histogram(series.name, series.bounds, labelled=bool(series.label_names))
    return _number(series.name, labelled=bool(series.label_names))


def _number(name: str, *, labelled: bool) -> Spell:
    form = f"{name}{{\0}} ".encode() if labelled else f"{name} ".encode()

    def spell(labels: bytes, doubles: Sequence[float]) -> bytes:
        return b"%b%r\n" % (form.replace(_LABELS, labels), doubles[0])

    return spell


def _histogram(name: str, bounds: tuple[float, ...], *, labelled: bool) -> Spell:
    before = "\0," if labelled else ""
    lines = [
        f'{name}_bucket{{{before}le="{floatToGoString(bound)}"}} %r\n'  # type: ignore[no-untyped-call]  # Go's spelling
        for bound in (*bounds, float("inf"))
    ]
    braced = "{\0}" if labelled else ""
    form = "".join([*lines, f"{name}_count{braced} %r\n", f"{name}_sum{braced} %r\n"]).encode()

    def spell(labels: bytes, doubles: Sequence[float]) -> bytes:
        buckets = list(accumulate(doubles[:-1]))
        return (form % (*buckets, buckets[-1], doubles[-1])).replace(_LABELS, labels)

    return spell
