"""Quotas in `mixer check` and `mixer validate`: what a check would be charged for, and what is wrong in a quota."""

from __future__ import annotations

import json

import pytest

REQUEST = {
    "attributes": {
        "request": {"http": {"method": "POST", "path": "/", "headers": {"x-tenant": "acme", "x-cost": "many"}}}
    }
}
QUOTAS = """
rate_limit:
  quotas:
    - name: per-tenant
      match: request.method == "POST"
      key: ['request.headers["x-tenant"]', request.method]
      cost: "2"
      limit: 100 / 1m
      algorithm: sliding_window
    - name: another-method
      match: request.method == "GET"
      limit: 100 / 1m
    - name: tried
      limit: 1 / 1s
      shadow: true
    - name: by-header
      cost: int(request.headers["x-cost"])
      limit: 1 / 1s
      on_expression_error: skip
"""


@pytest.fixture
def charging(tmp_path):
    """A configuration with quotas, and a policy that lets everyone pass but DELETE."""
    (tmp_path / "policy.rego").write_text(
        'package envoy.authz\n\nallow := input.attributes.request.http.method != "DELETE"\n'
    )
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    path = tmp_path / "mixer.yaml"
    path.write_text(f"policy: {{bundles: [policy.rego]}}\n{QUOTAS}")
    return path


def test_a_check_is_answered_as_the_first_that_is_charged(mixer, charging):
    words = ("check", "-c", charging, "--request", "request.json", "--format", "json")
    for _ in range(2):
        metadata = json.loads(mixer(*words).out)["response"]["dynamicMetadata"]
        assert (metadata["mixer_quota"], metadata["mixer_quota_remaining"]) == ("tried", 0)


def test_what_it_is_charged_for(mixer, charging):
    words = ("check", "-c", charging, "--request", "request.json", "--explain")
    lines = [line for line in mixer(*words).out.splitlines() if line.startswith("quota ")]
    assert set(lines[:2]) == {
        'quota        per-tenant: 2 of 100 / 1m, sliding_window for ["acme", "POST"]',
        "quota        tried: 1 of 1 / 1s, fixed_window, in shadow mode",
    }
    assert lines[2].startswith("quota        by-header: not charged, its cost has no value: ")
    explained = json.loads(mixer(*words, "--format", "json").out)["explain"]["quotas"]
    found = {one["name"]: one for one in explained}
    assert found.keys() == {"per-tenant", "tried", "by-header"}
    assert found["per-tenant"] == {
        "name": "per-tenant", "limit": "100 / 1m", "algorithm": "sliding_window", "shadow": False,
        "key": ["acme", "POST"], "hits": 2, "error": None,
    }  # fmt: skip
    assert found["by-header"]["error"].startswith("cost: ")


def test_what_the_policy_denies_is_charged_for_nothing(mixer, charging, tmp_path):
    denied = json.loads(json.dumps(REQUEST).replace("POST", "DELETE"))
    (tmp_path / "request.json").write_text(json.dumps(denied))
    found = json.loads(mixer("check", "--request", "request.json", "--explain", "--format", "json").out)
    assert (found["verdict"], found["explain"]["quotas"]) == ("deny", [])


def test_two_quotas_of_one_name_are_a_fault(mixer, charging):
    charging.write_text(charging.read_text().replace("tried", "per-tenant"))
    result = mixer("validate", "-c", charging)
    assert result.code == 1
    assert f"error: {charging.name}:4: rate_limit.quotas: quotas 0 and 2 are both called 'per-tenant'" in result.out
