"""Policies and data of a wanted size, for benchmarks and the soak: made when they are needed, never committed."""

from __future__ import annotations

import json
from pathlib import Path

_RULES_A_FILE = 1000
"""The engine refuses files above 1 MiB."""
_HEAD = """package envoy.authz

default allow := false

http := input.attributes.request.http
"""
_LAST = """
allow if {
    http.method == "GET"
    input.parsed_path[0] == "reviews"
    startswith(http.headers.authorization, "Basic ")
}
"""


def rules_in_rego(folder: Path, rules: int) -> Path:
    """A policy of so many rules, one a service; one of them allows the request, and each is tried."""
    folder.mkdir(parents=True, exist_ok=True)
    others = [
        f'\nallow if {{\n    http.method == "POST"\n    input.parsed_path[0] == "service-{number}"\n'
        f'    http.headers["x-tenant"] == "tenant-{number}"\n}}\n'
        for number in range(rules - 1)
    ]
    for first in range(0, len(others), _RULES_A_FILE):
        text = _HEAD.replace("\ndefault allow := false\n", "") + "".join(others[first : first + _RULES_A_FILE])
        (folder / f"a-{first:05d}.rego").write_text(text, encoding="utf-8")
    return _write(folder, _HEAD + _LAST)


def rules_in_data(folder: Path, megabytes: float) -> Path:
    """A policy of one rule that looks a service up in data of so many megabytes."""
    policy = _HEAD + (
        "\nallow if {\n    some role in data.services[input.parsed_path[0]][http.method]\n"
        '    role == data.tenants[http.headers["x-tenant"]].role\n}\n'
    )
    path = _write(folder, policy)
    tenants = {
        f"tenant-{number:07d}": {
            "role": f"role-{number % 50}",
            "name": f"Tenant number {number}",
            "limits": [number, 10],
        }
        for number in range(int(megabytes * 10_300))
    }
    document = {
        "services": {"reviews": {"GET": ["reader", "writer"], "POST": ["writer"]}},
        "tenants": {**tenants, "acme": {"role": "reader"}},
    }
    (folder / "data.json").write_text(json.dumps(document), encoding="utf-8")
    return path


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.rego").write_text(text, encoding="utf-8")
    return folder


def limit_rules(count: int, lease: int = 0) -> str:
    """A rate-limit file with a rule for each of so many services of any tenant, which nobody uses up."""
    limit = "unit: hour, requests_per_unit: 4000000000" + (f", lease: {lease}" if lease else "")
    services = "\n".join(
        f"      - {{key: service, value: service-{number}, rate_limit: {{{limit}}}}}" for number in range(count)
    )
    return f"domain: mesh\ndescriptors:\n  - key: tenant\n    descriptors:\n{services}\n"
