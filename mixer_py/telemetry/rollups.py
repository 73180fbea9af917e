"""Roll-ups by the minute: what dashboards ask again and again, kept small by ClickHouse as rows come in.

Each is a table of aggregate states and a materialized view that fills it from the rows of one table. A roll-up's key is
made of columns of its source, so that it can be asked what the source can be asked, a minute at a time.
Not for: the statements themselves (`ddl.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mixer_py.telemetry.column import TableOfColumns
from mixer_py.telemetry.columns import REQUESTS
from mixer_py.telemetry.decision_columns import DECISIONS

QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)
"""What the states of durations can be asked for: `quantilesTDigestMerge(…)(column)`."""
_LEVELS: Final = ", ".join(map(str, QUANTILES))


@dataclass(frozen=True, slots=True)
class Measure:
    """One aggregate of a roll-up.

    Attributes:
        name: column name.
        state: type of the column.
        expression: what fills it.
        meaning: one line for people.
    """

    name: str
    state: str
    expression: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Rollup:
    """One roll-up.

    Attributes:
        name: table name, without database; its materialized view is `<name>_mv`.
        meaning: one line for people.
        source: whose rows it sums up.
        key: columns of the source that are kept apart.
        measures: what is summed up.
        condition: rows of the source that count; empty for all.
    """

    name: str
    meaning: str
    source: TableOfColumns
    key: tuple[str, ...]
    measures: tuple[Measure, ...]
    condition: str = ""


def _sum(name: str, expression: str, meaning: str) -> Measure:
    return Measure(name, "SimpleAggregateFunction(sum, UInt64)", f"toUInt64(sum({expression}))", meaning)


def _count(name: str, condition: str, meaning: str) -> Measure:
    expression = f"countIf({condition})" if condition else "count()"
    return Measure(name, "SimpleAggregateFunction(sum, UInt64)", f"toUInt64({expression})", meaning)


def _quantiles(name: str, column: str, kind: str, meaning: str) -> Measure:
    return Measure(
        name,
        f"AggregateFunction(quantilesTDigest({_LEVELS}), {kind})",
        f"quantilesTDigestState({_LEVELS})({column})",
        meaning,
    )


_OUTCOMES: Final = (
    _count("requests", "", "requests"),
    _count("denied", "verdict = 'deny'", "of them, denied by policy"),
    _count("limited", "limit_code = 'OVER_LIMIT'", "of them, over a limit"),
    _count("failed", "response_code >= 500 OR response_code = 0", "of them, with a status of 500 and more, or none"),
    _quantiles("durations", "response_duration", "UInt64", "microseconds, as a state of quantilesTDigest"),
)

ROLLUPS: Final = (
    Rollup(
        name="services_by_minute",
        meaning="How each service fares, by verdict and status",
        source=REQUESTS,
        key=("reporter", "destination_service_host", "destination_service_name", "destination_service_namespace",
             "verdict", "response_code"),
        measures=(
            *_OUTCOMES,
            _sum("request_bytes", "request_total_size", "bytes received on the wire"),
            _sum("response_bytes", "response_total_size", "bytes sent on the wire"),
        ),
    ),
    Rollup(
        name="edges_by_minute",
        meaning="Who calls whom",
        source=REQUESTS,
        key=("reporter", "source_workload_name", "source_workload_namespace", "source_principal",
             "destination_workload_name", "destination_workload_namespace", "destination_service_name",
             "destination_service_namespace", "connection_mtls"),
        measures=_OUTCOMES,
    ),
    Rollup(
        name="limits_by_minute",
        meaning="How rate limits and quotas bite",
        source=REQUESTS,
        key=("limit_name", "limit_code", "quota_name", "destination_service_name"),
        measures=(
            _count("requests", "", "requests that met it"),
            Measure("least_remaining", "SimpleAggregateFunction(min, UInt32)",
                    "toUInt32(min(ifNull(limit_remaining, 4294967295)))",
                    "the least that was left of the limit; 4294967295 when it was never said"),
        ),
        condition="limit_name != '' OR quota_name != ''",
    ),
    Rollup(
        name="policies_by_minute",
        meaning="What policies decide, and a candidate beside them",
        source=DECISIONS,
        key=("decision", "rule", "verdict", "policy_revision", "dry_run", "shadow_verdict", "tier", "cache"),
        measures=(
            _count("decisions", "", "decisions"),
            _quantiles("durations", "duration_us", "Float64", "microseconds, as a state of quantilesTDigest"),
        ),
    ),
)  # fmt: skip
"""Every roll-up."""
