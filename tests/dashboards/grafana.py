"""What Grafana does with a panel's query before it asks: variables filled by their own queries, and put in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

RATE_INTERVAL = "10s"
"""For `$__rate_interval`, which Grafana makes four scrapes long or longer."""

Ask = Callable[[str], list[dict[str, Any]]]
"""Series of an instant query."""


class AsIs(str):
    """A value that stands in a query as it is, however it is asked for: Grafana's `allValue`."""

    __slots__ = ()


_SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")


def put_in(text: str, values: Mapping[str, str]) -> str:
    """The text with `$name`, `${name}` and `${name:sqlstring}` replaced; a name without a value is an error."""

    def value(found: re.Match[str]) -> str:
        known = values[found[1] or found[3]]
        quoted = found[2] == ":sqlstring" and not isinstance(known, AsIs)
        return "'{}'".format(known.replace("'", "''")) if quoted else known

    return re.sub(r"\$(?:\{(\w+)(:sqlstring)?\}|(\w+))", value, text)


def prometheus(expression: str, values: Mapping[str, str]) -> str:
    """A panel's PromQL as it is sent."""
    return put_in(expression, {"__rate_interval": RATE_INTERVAL, "__range": "5m", **values})


def clickhouse(sql: str, values: Mapping[str, str], start: float, end: float) -> str:
    """A panel's SQL as it is sent: with the macros of the plugin grafana-clickhouse-datasource for a time."""
    between = rf"\1 >= toDateTime({int(start)}) AND \1 <= toDateTime({int(end) + 1})"
    sql = re.sub(r"\$__timeFilter\((\w+)\)", between, sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)", sql)
    return put_in(sql, {"__interval_s": "60", **values})


def several(values: Sequence[str]) -> str:
    """How Grafana writes several values, or all of them, for a regular expression in PromQL."""
    escaped = [_SPECIAL.sub(lambda found: rf"\\{found[0]}", value.replace("\\", r"\\\\")) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def choices(query: str, regex: str, ask: Ask) -> list[str]:
    """What a variable of `query_result(query)` offers: what its regular expression finds in each series."""
    found = (re.match(regex, _line(series)) for series in ask(query))
    return sorted({match[1] for match in found if match})


def _line(series: Mapping[str, Any]) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in series["metric"].items())
    instant, value = series["value"]
    return f"{{{labels}}} {value} {instant}"


def ways_to_set(variables: Sequence[Mapping[str, Any]], given: Mapping[str, str], ask: Ask) -> Iterator[dict[str, str]]:
    """Every way to set a dashboard's variables, in their order.

    Args:
        variables: with `name`, and `regex`, `query`, and `all` where "All" is chosen rather than each value in turn.
        given: values of those that have no query.
        ask: asks Prometheus.
    """

    def set_rest(rest: Sequence[Mapping[str, Any]], values: dict[str, str]) -> Iterator[dict[str, str]]:
        if not rest:
            yield values
            return
        name = rest[0]["name"]
        if name in given:
            offered = [given[name]]
        else:
            found = choices(put_in(rest[0]["query"], values), rest[0]["regex"], ask)
            offered = [several(found)] if rest[0].get("all") else found
        for value in offered:
            yield from set_rest(rest[1:], {**values, name: value})

    return set_rest(variables, {})
