"""The case folders of quotas, `tests/cases/ext_authz/quota_*`, and how an answer is held against one.

See the README beside them. Counters outlive a reload, so a runner that decides the cases of several ways in one mixer
gives the quotas of each way names of their own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf import json_format

from mixer_py.settings import parse_duration
from tests.parts.presence import ROOT

CASES = ROOT / "tests" / "cases" / "ext_authz"
HEADERS = {"user-agent": "case"}


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a case, and its wanted answer.

    Attributes:
        advance: seconds that pass before it.
        method, path, headers: the request.
        want: parts of the answer's metadata by short names, and what a client sees.
        error: the call fails; None for an answer.
    """

    advance: float
    method: str
    path: str
    headers: dict[str, str]
    want: dict[str, Any]
    error: dict[str, str] | None

    def message(self) -> CheckRequest:
        request = CheckRequest()
        http = request.attributes.request.http
        http.method, http.path, http.host = self.method, self.path, "service.example"
        http.headers.update(HEADERS | self.headers)
        return request


@dataclass(frozen=True, slots=True)
class Case:
    """A case folder.

    Attributes:
        name: of the folder.
        configuration: `policy` and `rate_limit`, without bundles.
        policy: its module.
        steps: in order.
    """

    name: str
    configuration: dict[str, Any]
    policy: str
    steps: tuple[Step, ...]

    @property
    def moves_the_clock(self) -> bool:
        """Such a case can only be held against a clock of our own."""
        return any(step.advance for step in self.steps)


def load_cases(way: str = "") -> list[Case]:
    """Every case; with quotas named apart for a way of asking."""
    return [_load(path.parent, way) for path in sorted(CASES.glob("quota_*/steps.json"))]


def _load(folder: Path, way: str) -> Case:
    files = [(folder / name).read_text(encoding="utf-8") for name in ("config.yaml", "policy.rego", "steps.json")]
    if way:
        for quota in yaml.safe_load(files[0]).get("rate_limit", {}).get("quotas", ()):
            files = [text.replace(quota["name"], f"{quota['name']}.{way}") for text in files]
    config, policy, steps = files
    return Case(folder.name, yaml.safe_load(config), policy, tuple(map(_step, json.loads(steps))))


def _step(step: dict[str, Any]) -> Step:
    unknown = step.keys() - {"advance", "request", "want", "error"}
    unknown |= step.get("want", {}).keys() - {"verdict", "quota", "code", "remaining", "rule", "reasons", "http"}
    if unknown:
        raise ValueError(f"a step has no {sorted(unknown)}")
    request = step["request"]
    advance = parse_duration(step["advance"]) if "advance" in step else 0.0
    headers = request.get("headers", {})
    return Step(advance, request["method"], request["path"], headers, step.get("want", {}), step.get("error"))


def assert_answer(response: CheckResponse, want: dict[str, Any]) -> None:
    """The metadata, and what Envoy is told to answer."""
    metadata = json_format.MessageToDict(response.dynamic_metadata)
    names = {"verdict": "mixer_verdict", "quota": "mixer_quota", "code": "mixer_quota_code", "rule": "mixer_rule",
             "reasons": "mixer_reasons"}  # fmt: skip
    for short, name in names.items():
        if short in want:
            assert metadata[name] == want[short], (name, metadata)
    if "remaining" in want:
        wanted = "" if want["remaining"] is None else want["remaining"]
        assert metadata["mixer_quota_remaining"] == wanted, metadata
    http = want.get("http")
    if http is None:
        return
    passes = response.status.code == 0
    assert passes is (http["status"] == 200), response
    if not passes and response.HasField("denied_response"):
        denied = response.denied_response
        assert denied.status.code == http["status"]
        assert_headers({option.header.key.lower(): option.header.value for option in denied.headers}, http)
        assert denied.body == http.get("body", denied.body)


def assert_headers(headers: dict[str, str], http: dict[str, Any]) -> None:
    """Those of the response to a denied request."""
    for name, value in http.get("headers", {}).items():
        assert headers.get(name) == value, (name, headers)
    for name in http.get("has", ()):
        assert int(headers[name]) > 0, (name, headers)
    assert headers.keys().isdisjoint(http.get("absent", ())), headers
