"""The short form of `make bench`: every benchmark runs, and the index says of each budget what was measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mixer_py.demo.processes import own_environment
from tests.parts.presence import ROOT

BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=own_environment())


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> Path:
    """A folder with all reports, made once."""
    folder: Path = tmp_path_factory.mktemp("reports")
    done = run("everything.py", "--short", "--output", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.long(5)
@pytest.mark.envoy
@pytest.mark.chdb
@pytest.mark.valkey
@pytest.mark.vegeta
class TestShortForm:
    def test_every_budget_is_held_against_a_figure(self, reports):
        index = (reports / "README.md").read_text()
        table = index.partition("## Budgets")[2].partition("## As work")[0]
        lines = [line for line in table.splitlines() if line.startswith("| [") or "not measured" in line]
        assert len(lines) > 5
        for line in lines:
            assert re.search(r"\| [\d.]+ (floors|MiB|ratio) \| [\d.]+.* \| (met|\*\*missed\*\*) \|", line), line

    def test_every_link_of_the_index_leads_to_a_heading_or_a_chart(self, reports):
        index = (reports / "README.md").read_text()
        links = re.findall(r"\]\(((?!\.\.)[^)]+)\)", index)
        assert len(links) > 10
        for link in links:
            file, _, anchor = link.partition("#")
            text = (reports / file).read_text()
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
            assert not anchor or anchor in anchors, link

    def test_every_report_tells_all_and_its_figures_are_comparable(self, reports):
        names = {path.stem for path in reports.glob("*.md")} - {"README"}
        assert names == {path.stem for path in reports.glob("*.json")}
        for name in names:
            text = (reports / f"{name}.md").read_text()
            assert "$" not in text
            assert "processors" in text
            assert "## Method" in text
            done = run("compare.py", str(reports / f"{name}.json"), str(reports / f"{name}.json"))
            assert (done.returncode, done.stderr) == (0, "")
            assert "Nothing has changed beyond noise." in done.stdout

    def test_no_request_through_envoy_failed(self, reports):
        text = (reports / "fixed-rates.md").read_text()
        failed = re.findall(r"^\| (.*?) \|.*\| (\d+) of [\d,]+(?:: (.*))? \|$", text, re.MULTILINE)
        assert [way for way, _, _ in failed] == [
            "without mixer",
            "mixer on grpcio",
            "mixer on the transport envoy",
            "mixer inside that Envoy",
            "mixer on grpcio, every request and decision kept in ClickHouse",
        ]
        assert {(count, why) for _, count, why in failed} == {("0", "")}, text


def test_a_short_run_does_not_overwrite_what_was_measured():
    done = run("everything.py", "--short")
    assert done.returncode == 1
    assert "give it another folder" in done.stderr


def test_an_index_of_nothing_says_what_was_not_measured(tmp_path):
    done = run("everything.py", "--index", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "README.md").read_text().partition("## Budgets")[2].partition("## As work")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 5
    assert all("| not measured | |" in line for line in lines)
