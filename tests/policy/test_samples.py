"""What is said of the sample policies is so: their pages, their configurations, what evaluates them."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format

from mixer_py.config.loading import load
from mixer_py.envoy_parts import find_envoy
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from tests.parts.envoy_proxy import SHIPPED, manager

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path.name for path in (ROOT / "policies").iterdir() if path.is_dir())


def yaml_blocks(sample: str) -> list[Any]:
    text = (ROOT / "policies" / sample / "README.md").read_text()
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def rows(document: Path) -> dict[str, list[str]]:
    """Cells of the table's rows by the sample that the first one links to."""
    lines = re.findall(r"^\| \[(\w+)\]\(([^)]*)\) \|(.*)\|$", document.read_text(), re.MULTILINE)
    for name, target, _ in lines:
        assert (document.parent / target).resolve() == ROOT / "policies" / name / "README.md"
    return {name: [cell.strip() for cell in cells.split("|")] for name, _, cells in lines}


def test_every_sample_has_its_row() -> None:
    assert sorted(rows(ROOT / "policies" / "README.md")) == SAMPLES
    assert sorted(rows(ROOT / "docs" / "policies.md")) == SAMPLES


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_is_whole(sample: str) -> None:
    folder = ROOT / "policies" / sample
    assert list(folder.glob("bundle/*_test.rego"))
    assert len(list(folder.glob("cases/*/want.json"))) >= 5


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_evaluates_it_is_what_the_page_says(sample: str) -> None:
    settings = PolicySettings(bundles=(str(ROOT / "policies" / sample / "bundle"),), decision="envoy/authz/result")
    point = Policy.load(settings).points[-1]
    said = point.explain()  # type: ignore[union-attr]
    assert rows(ROOT / "docs" / "policies.md")[sample][1:] == [said.tier, "yes" if said.cached else "no"]


@pytest.mark.parametrize("sample", SAMPLES)
async def test_no_request_of_its_cases_is_evaluated_by_a_slower_tier(sample: str) -> None:
    folder = ROOT / "policies" / sample
    settings = PolicySettings(bundles=(str(folder / "bundle"),), decision="envoy/authz/result")
    point = Policy.load(settings).points[-1]
    for case in folder.glob("cases/*/request.json"):
        ruling = await point.decide(json_format.Parse(case.read_bytes(), CheckRequest()))
        assert ruling.tier == point.tier, case


@pytest.mark.parametrize("sample", SAMPLES)
def test_its_configurations_are_accepted(sample: str, tmp_path: Path) -> None:
    configurations = [block for block in yaml_blocks(sample) if "policy" in block or "rate_limit" in block]
    assert configurations
    (tmp_path / "policies").symlink_to(ROOT / "policies")
    for configuration in configurations:
        (tmp_path / "mixer.yaml").write_text(yaml.safe_dump(configuration))
        loaded = load(tmp_path / "mixer.yaml", {}, [])
        assert all(Path(bundle).exists() for bundle in loaded.policy.bundles)
        Rules.load(loaded.rate_limit)


def test_the_limits_of_the_quotas_sample_are_those_of_its_plans() -> None:
    plans = yaml.safe_load((ROOT / "policies" / "quotas_from_policy" / "bundle" / "data.json").read_text())["plans"]
    (configuration,) = [block for block in yaml_blocks("quotas_from_policy") if "rate_limit" in block]
    quotas = RateLimitSettings(**configuration["rate_limit"]).quotas
    assert {quota.name: (quota.match, quota.terms.limit) for quota in quotas} == {
        name: ("false", plan["per_minute"]) for name, plan in plans.items()
    }


def test_envoy_accepts_the_rate_limits_of_the_quotas_sample(tmp_path: Path) -> None:
    (piece,) = [block for block in yaml_blocks("quotas_from_policy") if "rate_limits" in block]
    bootstrap = copy.deepcopy(yaml.safe_load(SHIPPED.read_text()))
    for host in manager(bootstrap)["route_config"]["virtual_hosts"]:
        host["rate_limits"] = piece["rate_limits"]
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(bootstrap))
    done = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", "envoy.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
