"""The dashboards that are shipped, as Grafana reads them: panels, queries, and ways to set the variables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.dashboards.grafana import AsIs, clickhouse
from tests.dashboards.mesh import Mesh
from tests.parts.presence import ROOT

DASHBOARDS: Mapping[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
}
EMPTY: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "empty.yaml").read_text(encoding="utf-8"))
Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel: PromQL or SQL, with variables still in it."""

    dashboard: str
    panel: str
    text: str
    is_sql: bool

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel} / {self.text}"


def queries(name: str) -> Iterator[Query]:
    """Every query of a dashboard."""
    for panel in DASHBOARDS[name]["panels"]:
        for target in panel.get("targets", ()):
            is_sql = "rawSql" in target
            yield Query(name, panel["title"], target["rawSql" if is_sql else "expr"], is_sql)


def is_listed(query: Query, entry: Mapping[str, Any]) -> bool:
    """Whether an entry of empty.yaml means the query."""
    fits = query.dashboard == entry["dashboard"] and query.panel == entry["panel"]
    return fits and entry.get("query", "") in query.text


def ways_to_set(name: str, mesh: Mesh) -> list[Values]:
    """Ways to set a dashboard's variables: "All" where that can be chosen, else each choice in turn."""
    ways: list[Values] = [{}]
    for variable in DASHBOARDS[name]["templating"]["list"]:
        offer = _OFFERS[variable["type"]]
        ways = [{**way, variable["name"]: value} for way in ways for value in offer(variable, way, mesh)]
    return ways


def _choices(variable: Mapping[str, Any], way: Values, mesh: Mesh) -> list[str]:
    if variable["type"] == "custom":
        found = variable["query"].split(",")
    elif isinstance(variable["query"], str):
        rows = mesh.mixer.rows(clickhouse(variable["query"], way, mesh.start - 60, mesh.end))
        found = [value for row in rows for value in row.values()]
    else:
        selector, label = variable["query"]["query"].removeprefix("label_values(").rstrip(")").rsplit(", ", 1)
        selector = selector.replace("$reporter", way["reporter"])
        found = mesh.prometheus.get(f"label/{label}/values", **{"match[]": selector})
    assert found, f"{variable['name']} offers nothing to choose"
    return [AsIs(variable["allValue"])] if variable.get("includeAll") else found


_OFFERS: Mapping[str, Callable[[Mapping[str, Any], Values, Mesh], list[str]]] = {
    "datasource": lambda variable, way, mesh: [variable["query"]],
    "textbox": lambda variable, way, mesh: [variable["query"]],
    "custom": _choices,
    "query": _choices,
}
