"""Istio's dashboards as istio.yaml writes them down, and what of them is known to be empty."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Query:
    """One query of one panel.

    Attributes:
        dashboard, row, panel: titles.
        policy: `mTLS` or `plain` where the panel shows them apart, else empty.
        expression: PromQL with Grafana's variables still in it.
    """

    dashboard: str
    row: str
    panel: str
    policy: str
    expression: str

    def __str__(self) -> str:
        return " / ".join(filter(None, (self.row, self.panel, self.policy)))


def _read(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))
    return found


DASHBOARDS = _read("istio.yaml")
EMPTY = _read("istio_empty.yaml")


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """Every query of a dashboard, with its quantiles and policies spelt out."""
    for row in dashboard["rows"]:
        for panel in row["panels"]:
            for policy, expression in _spelt_out(panel):
                yield Query(dashboard["dashboard"], row["row"], panel["title"], policy, expression)


def _spelt_out(panel: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    policies = ("mTLS", "plain") if panel.get("policies") else ("",)
    for text, policy, quantile in itertools.product(panel["exprs"], policies, panel.get("quantiles", [0.0])):
        mutual = policy == "mTLS"
        expression = text.replace("<policy>", "=" if mutual else "!=").replace("<spiffe>", "=~" if mutual else "!~")
        yield policy, expression.replace("<quantile>", f"{quantile:.2f}")


def is_listed(query: Query, reporter: str, entry: Mapping[str, Any]) -> bool:
    """Whether an entry of istio_empty.yaml means the query when $qrep is `reporter`."""
    facts = {
        "reporter": reporter, "dashboard": query.dashboard, "row": query.row, "panel": query.panel,
        "policy": query.policy,
    }  # fmt: skip
    return all(facts[name] in entry[name] for name in facts if name in entry)
