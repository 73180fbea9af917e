"""The keys of `telemetry.prometheus.metrics`: metrics of the user's own, computed over rows of `requests`.

Every fault is found here, expressions included, before any row. Not for: counting (`user_metrics.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from mixer_py.errors import Fault
from mixer_py.expressions import BOOL, DOUBLE, INT, STRING, Scope, compile_expression
from mixer_py.expressions.settings import as_written, checked
from mixer_py.settings import Settings
from mixer_py.telemetry.bucket_bounds import BucketBounds
from mixer_py.telemetry.istio_names import BUCKETS

_FIELD: Final = "telemetry.prometheus.metrics"
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TAKEN: Final = ("istio_", "mixer_", "__")
_SUFFIXES: Final = ("_bucket", "_count", "_sum", "_total", "_created", "_info")
"""What Prometheus appends to names of its own accord, or reads a meaning from."""
_TOTAL: Final = "_total"


def _scope() -> Scope:
    """The names of expressions. Imported here, because it needs Arrow, and without such metrics nobody loads that."""
    from mixer_py.telemetry.row_scope import ROW_SCOPE  # noqa: PLC0415

    return ROW_SCOPE


def _check_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no name of a metric; write letters, digits and `_`, and begin with no digit")
    for taken in _TAKEN:
        if value.startswith(taken):
            raise ValueError(f"names that begin with {taken} are taken; begin with one of your own")
    return value


def _check_label(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no name of a label; write letters, digits and `_`, and begin with no digit")
    if value.startswith("__") or value == "le":
        raise ValueError(f"Prometheus keeps the label {value} to itself; call it otherwise")
    return value


def _check_number(text: str) -> str:
    kind = compile_expression(text, scope=_scope()).type
    if kind not in {INT, DOUBLE}:
        way_out = f"; convert it by double({text.strip()})" if kind == STRING else ""
        raise ValueError(f"a number is wanted, and this is {kind.one}{way_out}")
    return text


_Condition = Annotated[str, BeforeValidator(as_written), AfterValidator(checked(BOOL, _scope))]
_Label = Annotated[str, BeforeValidator(as_written), AfterValidator(checked(STRING, _scope, as_text=True))]
_Number = Annotated[
    str, BeforeValidator(as_written), AfterValidator(checked(None, _scope)), AfterValidator(_check_number)
]


class UserMetricSettings(Settings):
    """A metric over finished requests; `docs/metrics.md` has examples."""

    name: Annotated[str, AfterValidator(_check_name)]
    """What Prometheus calls it; that of a counter ends in `_total`."""
    kind: Literal["counter", "histogram"]
    """`counter` sums the values up, `histogram` counts them by buckets."""
    help: str = "A metric of telemetry.prometheus.metrics."
    """One line that says what it is."""
    match: _Condition = "true"
    """Which requests count: CEL over the columns of `requests` that gives a bool."""
    value: _Number = "1"
    """What a request adds, at least 0: CEL that gives an int or a double, or the name of a column or attribute."""
    labels: Mapping[Annotated[str, AfterValidator(_check_label)], _Label] = Field(default_factory=dict)
    """By label, its value: CEL, or the name of a column or attribute; taken as text."""
    buckets: BucketBounds = ()
    """Upper bounds of a histogram's buckets; without any those of Istio's histograms."""
    max_label_sets: int = Field(default=1_000, ge=1)
    """Series that it may have in one process. What comes above it is counted in one series whose labels are all
    `other`, and in `mixer_series_overflow_total`."""

    @field_validator("help")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())

    @model_validator(mode="after")
    def _fits_together(self) -> UserMetricSettings:
        if self.kind == "counter":
            if not self.name.endswith(_TOTAL):
                raise ValueError(f"the name of a counter ends in _total; call it {self.name}_total")
            if self.buckets:
                raise ValueError("buckets are for a histogram, and this is a counter; leave one of them out")
        else:
            for suffix in _SUFFIXES:
                if self.name.endswith(suffix):
                    raise ValueError(
                        f"the name of a histogram does not end in {suffix}; call it {self.name.removesuffix(suffix)}"
                    )
        return self

    @property
    def family(self) -> str:
        """The name that Prometheus tells metrics apart by."""
        return self.name.removesuffix(_TOTAL)

    @property
    def bounds(self) -> tuple[float, ...]:
        """Of a histogram's buckets."""
        return self.buckets or BUCKETS

    @property
    def form(self) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
        """What all series of one name share as long as mixer runs: kind, labels, bounds."""
        return self.kind, tuple(self.labels), self.bounds if self.kind == "histogram" else ()


def _tell_apart(metrics: tuple[UserMetricSettings, ...]) -> tuple[UserMetricSettings, ...]:
    first: dict[str, int] = {}
    for index, metric in enumerate(metrics):
        if metric.family in first:
            before = first[metric.family]
            raise ValueError(
                f"metrics {before} and {index}, {metrics[before].name} and {metric.name}, are one to Prometheus; "
                "give each a name of its own"
            )
        first[metric.family] = index
    return metrics


UserMetrics = Annotated[tuple[UserMetricSettings, ...], AfterValidator(_tell_apart)]
"""Metrics whose names differ."""


class Forms:
    """What each metric has been since mixer started: its series stay, and others of another form cannot join them."""

    def __init__(self, metrics: Iterable[UserMetricSettings]) -> None:
        """Begins with those of the first configuration."""
        self._known = {metric.family: metric for metric in metrics}

    def faults(self, metrics: Iterable[UserMetricSettings]) -> list[Fault]:
        """One for each metric whose kind, labels or buckets have changed."""
        return [
            Fault(
                f"{metric.name} was counted with other labels, buckets or another kind since mixer started",
                field=f"{_FIELD}.{index}",
                way_out="give it another name, or restart mixer",
            )
            for index, metric in enumerate(metrics)
            if (before := self._known.get(metric.family)) is not None
            and (before.name, before.form) != (metric.name, metric.form)
        ]

    def keep(self, metrics: Iterable[UserMetricSettings]) -> None:
        """Notes what is counted from now on."""
        self._known |= {metric.family: metric for metric in metrics}
