#!/usr/bin/env python3
"""Makes Grafana's dashboards from what stands in source/: titles, questions and queries.

    python deploy/grafana/generate.py [FOLDER]     writes FOLDER/*.json; without it, dashboards/ beside this file

A source has `title`, `description`, `variables` and `rows` of `panels`. A panel shows a `timeseries` unless `show`
says `stat`, `name` (the legend as a stat) or `table`; it asks `prometheus` (a list of `expr` with `legend`, repeated
for each of `quantiles` in the place of `<quantile>`) or `clickhouse` (one SELECT). A variable has `values`, a `text`,
or is asked for: `label_values` (a selector) `of` a label, or `clickhouse`; `all` is what stands in a query for "All".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "${clickhouse}"}
WIDTH = 24
"""Grafana's grid."""
_SCHEMA = 39
"""Of Grafana 11."""
_ON_TIME = 2
"""A variable is asked for again when the time shown changes."""


def dashboard(name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """A dashboard as Grafana imports it."""
    return {
        "uid": f"mixer-{name}",
        "title": source["title"],
        "description": source["description"],
        "tags": ["mixer"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["mixer"], "title": "Mixer", "includeVars": True, "keepTime": True}],
        "templating": {"list": [*data_sources(source), *map(variable, source["variables"])]},
        "panels": list(panels(source["rows"])),
    }


def data_sources(source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A variable for each data source that is asked, so that a dashboard fits every Grafana."""
    text = json.dumps(source)
    for name, kind, label in (("prometheus", PROMETHEUS, "Prometheus"), ("clickhouse", CLICKHOUSE, "ClickHouse")):
        if f'"{name}"' in text or (name == "prometheus" and '"label_values"' in text):
            yield {"name": name, "label": label, "type": "datasource", "query": kind["type"]}


def variable(source: Mapping[str, Any]) -> dict[str, Any]:
    """A variable above the panels."""
    made: dict[str, Any] = {"name": source["name"], "label": source["label"]}
    if "text" in source:
        return {**made, "type": "textbox", "query": source["text"], "current": chosen(source["text"])}
    if "values" in source:
        made |= {"type": "custom", "query": ",".join(source["values"]), "current": chosen(source["values"][0])}
    elif "label_values" in source:
        query = f"label_values({source['label_values']}, {source['of']})"
        asked = {"query": query, "refId": source["name"]}
        made |= {"type": "query", "datasource": PROMETHEUS, "query": asked, "refresh": _ON_TIME, "sort": 1}
    else:
        made |= {"type": "query", "datasource": CLICKHOUSE, "query": source["clickhouse"], "refresh": _ON_TIME}
    if "all" in source:
        made |= {"includeAll": True, "allValue": source["all"], "current": {"text": "All", "value": "$__all"}}
    return made


def chosen(value: str) -> dict[str, str]:
    """A variable's value until somebody chooses another."""
    return {"text": value, "value": value}


def panels(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each row and its panels, side by side: in halves, thirds or sixths, three to a line where there are more."""
    number = top = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row["title"],
            "collapsed": False,
            "panels": [],
            **at(top, 0, WIDTH, 1),
        }
        top += 1
        height = row.get("height", 7)
        across = len(row["panels"]) if row["panels"][0].get("show") in {"stat", "name"} else min(len(row["panels"]), 3)
        for place, source in enumerate(row["panels"]):
            number += 1
            width = WIDTH // across
            down, right = divmod(place, across)
            yield {"id": number, **panel(source), **at(top + down * height, right * width, width, height)}
        top += -(-len(row["panels"]) // across) * height


def at(top: int, left: int, width: int, height: int) -> dict[str, Any]:
    """Where a panel stands."""
    return {"gridPos": {"x": left, "y": top, "w": width, "h": height}}


def panel(source: Mapping[str, Any]) -> dict[str, Any]:
    """One panel without its place."""
    show = source.get("show", "timeseries")
    defaults: dict[str, Any] = {"unit": source.get("unit", "short")}
    options: dict[str, Any] = {}
    if show == "timeseries":
        defaults |= {"min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    elif show != "table":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "name" if show == "name" else "auto"}
        steps = [{"color": "green", "value": None}]
        if "bad_above" in source:
            steps.append({"color": "red", "value": source["bad_above"] + 1e-9})
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    made = {
        "type": "stat" if show == "name" else show,
        "title": source["title"],
        "datasource": PROMETHEUS if "prometheus" in source else CLICKHOUSE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": list(targets(source, show)),
    }
    if "about" in source:
        made["description"] = source["about"]
    if "clickhouse" in source and show == "timeseries":
        made["interval"] = "1m"  # roll-ups know no shorter time
    return made


def targets(source: Mapping[str, Any], show: str) -> Iterator[dict[str, Any]]:
    """The queries of a panel."""
    if "clickhouse" in source:
        table = show == "table"
        yield {
            "refId": "A",
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "queryType": "table" if table else "timeseries",
            "format": int(table),
            "rawSql": source["clickhouse"],
        }
        return
    asked = [
        (
            query["expr"].replace("<quantile>", str(quantile)),
            query.get("legend") or f"p{100 * quantile:g}" * bool(quantile),
        )
        for query in source["prometheus"]
        for quantile in query.get("quantiles", [0])
    ]
    for number, (expression, legend) in enumerate(asked):
        letter = chr(ord("A") + number)
        yield {"refId": letter, "datasource": PROMETHEUS, "expr": expression, "legendFormat": legend or "__auto"}


def main(arguments: list[str]) -> None:
    """Writes every dashboard."""
    folder = Path(arguments[0]) if arguments else HERE / "dashboards"
    for path in sorted((HERE / "source").glob("*.yaml")):
        made = dashboard(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{path.stem}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
