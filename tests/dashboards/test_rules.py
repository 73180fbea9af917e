"""The shipped rules and dashboards as files: what Prometheus makes of them, and that they are what the code makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parts.presence import ROOT, find_server
from tests.project.test_metric_names import documented

RULES = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text(encoding="utf-8"))


def promtool(*arguments: str | Path) -> str:
    """What Prometheus's own checker says; a test fails with its words."""
    prometheus = find_server("prometheus")
    assert prometheus is not None
    finished = subprocess.run(
        (prometheus.with_name("promtool"), *arguments), capture_output=True, text=True, check=False, timeout=120
    )
    said = finished.stdout + finished.stderr
    assert finished.returncode == 0, said
    return said


def alerts() -> list[str]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"]]


@pytest.mark.prometheus
def test_prometheus_accepts_its_configuration_and_the_rules():
    assert "SUCCESS" in promtool("check", "config", RULES / "prometheus.yml")


def test_every_alert_has_a_case():
    assert {case["alert"] for case in CASES} == set(alerts())


@pytest.mark.prometheus
def test_every_alert_fires_when_it_should_and_not_before(tmp_path):
    def expect(case: dict[str, Any], moment: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
        expression = f'count(ALERTS{{alertname="{case["alert"]}",alertstate="firing"}})'
        return {"expr": expression, "eval_time": case[moment], "exp_samples": samples}

    tests = [
        {
            "name": case["alert"],
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case["series"].items()],
            "promql_expr_test": [expect(case, "quiet", []), expect(case, "fires", [{"labels": "{}", "value": 1}])],
        }
        for case in CASES
    ]
    rules = [str(RULES / name) for name in ("recording.yml", "alerts.yml")]
    file = tmp_path / "alerts_test.json"
    file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": tests}), encoding="utf-8")
    promtool("test", "rules", file)


def test_every_alert_has_its_page_of_the_runbook():
    pages = {page.stem for page in (ROOT / "docs" / "runbook").glob("*.md")}
    assert pages == set(alerts())
    groups = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["annotations"]["runbook"] == f"docs/runbook/{rule['alert']}.md"
    index = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    assert [name for name in alerts() if f"](runbook/{name}.md)" not in index] == []


def test_the_committed_dashboards_are_what_the_code_makes(tmp_path):
    subprocess.run((sys.executable, GRAFANA / "generate.py", tmp_path), check=True, timeout=60)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in (GRAFANA / "dashboards").iterdir()}
    assert made == committed, "run: make docs"
    assert len({json.loads(text)["uid"] for text in made.values()}) == len(made)


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL that is shipped, with the name of where it stands."""
    for name in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert", rule.get("record")), rule["expr"]
    for path in sorted((GRAFANA / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                if "expr" in target:
                    yield f"{path.stem} / {panel['title']}", target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_metrics_and_labels_of_a_query_exist(where, expression):
    """Also those that no traffic of a test makes."""
    known = documented()
    selectors = re.findall(r"(?<![\w:])(mixer_\w+?)(?:_bucket|_sum|_count)?(?![\w:])(?:\{([^}]*)\})?", expression)
    assert {name for name, _ in selectors} <= known.keys()
    for name, matchers in selectors:
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= known[name]
    if selectors and "istio_" not in expression:
        grouped = {label for names in re.findall(r"by \(([^)]*)\)", expression) for label in names.split(", ")}
        assert grouped <= {"le", "instance"}.union(*(known[name] for name, _ in selectors))


def test_data_sources_are_those_that_dashboards_ask():
    file = GRAFANA / "provisioning" / "datasources" / "mixer.yaml"
    sources = {source["type"]: source for source in yaml.safe_load(file.read_text(encoding="utf-8"))["datasources"]}
    asked = {
        variable["query"]
        for path in (GRAFANA / "dashboards").glob("*.json")
        for variable in json.loads(path.read_text(encoding="utf-8"))["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert sources.keys() == asked
    scrape = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))["global"]["scrape_interval"]
    assert sources["prometheus"]["jsonData"]["timeInterval"] == scrape, "$__rate_interval is made from it"
