"""`system.log.mask` and `system.log.drop`, evaluated by the embedded engine, and what they do against a real OPA."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from mixer_py.demo.processes import Ports, fetch
from mixer_py.errors import EvaluationError, ResultError
from mixer_py.policy.decision import Decision, QuotaAsked
from mixer_py.policy.log_rules import result_of
from mixer_py.policy.policy import Policy
from mixer_py.telemetry.masking_rules import apply_rules, read_rules
from tests.parts.http_client import request
from tests.parts.mixer_process import eventually
from tests.parts.presence import find_server
from tests.parts.programs import Programs

Load = Callable[..., Policy]

AUTHZ = 'package envoy.authz\n\nimport rego.v1\n\ndefault allow := false\n\nallow if input.user == "ann"\n'
RULES = """
package system.log

import rego.v1

mask contains "/input/password"

mask contains "/input/attributes/request/http/headers/x-user" if input.input.user == "ann"

mask contains {"op": "upsert", "path": "/input/card", "value": {"last": substring(input.input.card, 12, 4)}}

mask contains "/input/list/1"

mask contains {"op": "upsert", "path": "/input/list/0", "value": null}

mask contains {"op": "upsert", "path": "/input/new/deep/place", "value": "x"}

mask contains {"op": "upsert", "path": "/input/user/below/text", "value": "x"}

mask contains "/input/user/below/text"

mask contains {"op": "remove", "path": "/input/nested/0/0"}

mask contains "/input/list/7"

mask contains {"op": "upsert", "path": "/input/list/9/x", "value": 1}

mask contains "/input/a.b"

mask contains "/nd_builtin_cache/x"

mask contains "/input/none"

drop if {
    input.path == "envoy/authz/allow"
    input.input.health
    input.result == false
}
"""


def event(document: Mapping[str, Any], **fields: Any) -> str:
    return json.dumps({"decision_id": "d", "path": "envoy/authz/allow", "input": document, "result": False, **fields})


async def test_without_rules_there_are_none(load: Load) -> None:
    assert load(AUTHZ).log_rules is None
    rules = load({"policy.rego": AUTHZ, "other.rego": "package system.other\n\nx := 1\n"}).log_rules
    assert rules is not None
    assert (await rules.drops(event({})), await rules.masks(event({}))) == (False, [])


async def test_rules_see_the_event(load: Load) -> None:
    rules = load({"policy.rego": AUTHZ, "log.rego": RULES}).log_rules
    assert rules is not None
    assert await rules.drops(event({"health": True}))
    assert not await rules.drops(event({"health": True}, result=True))
    assert not await rules.drops(event({"health": True}, path="other"))
    assert not await rules.drops(event({}))
    assert "/input/attributes/request/http/headers/x-user" in await rules.masks(event({"user": "ann"}))
    assert "/input/attributes/request/http/headers/x-user" not in await rules.masks(event({"user": "bob"}))


async def test_masks_may_be_data(load: Load) -> None:
    rules = load({"policy.rego": AUTHZ, "system/log/data.json": '{"mask": ["/input/a"]}'}).log_rules
    assert rules is not None
    assert (await rules.masks(event({})), await rules.drops(event({}))) == (["/input/a"], False)


async def test_rules_that_fail_say_so(load: Load) -> None:
    conflict = "package system.log\n\nmask := [input.input.a] if true\n\nmask := [input.input.b] if true\n"
    rules = load(
        {"policy.rego": AUTHZ, "log.rego": conflict.replace("\n\nmask", "\n\nimport rego.v1\n\nmask", 1)}
    ).log_rules
    assert rules is not None
    with pytest.raises(EvaluationError):
        await rules.masks(event({"a": "/input/x", "b": "/input/y"}))


def test_results_are_shown_as_the_policy_gave_them() -> None:
    assert result_of(Decision(allowed=True, plain=True)) is True
    denied = Decision(allowed=False, http_status=401, headers=(("a", "b"),), reasons=("r",))
    charging = Decision(allowed=True, quotas=(QuotaAsked("q", ("acme",), 2), QuotaAsked("r")))
    assert result_of(charging) == {
        "allowed": True,
        "quotas": [{"name": "q", "key": ["acme"], "hits": 2}, {"name": "r"}],
    }
    assert result_of(denied) == {"allowed": False, "http_status": 401, "headers": {"a": ["b"]}, "reasons": ["r"]}
    assert result_of(None) is None


def test_rules_of_a_wrong_shape_are_named() -> None:
    with pytest.raises(ResultError, match='must begin with /input or /result, but is "/inputs/x"'):
        read_rules(["/inputs/x"])
    with pytest.raises(ResultError, match="op must be remove or upsert, but is null"):
        read_rules([{"path": "/input/x"}])


DOCUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"user": "ann", "password": "p", "card": "1234567812345678", "list": [1, 2, 3], "nested": [["a", "b"], "c"]},
    {"attributes": {"request": {"http": {"headers": {"x-user": "u", "x-b": "b"}}}}, "user": "ann", "a.b": 1},
    {"password": {"deep": [1]}, "list": "no list", "nested": [[]], "new": "text", "card": "x"},
    {"list": [], "nested": {"0": {"0": 1, "1": 2}}, "new": {"deep": {"other": 1}}, "card": "ü" * 20},
)


@pytest.mark.opa
async def test_masks_do_what_they_do_in_opa(load: Load, programs: Programs, ports: Ports, tmp_path: Path) -> None:
    rules = load({"policy.rego": AUTHZ, "log.rego": RULES}).log_rules
    assert rules is not None
    port = ports.take()
    opa = programs.start("opa", (
        find_server("opa") or "opa", "run", "--server", f"--addr=127.0.0.1:{port}", "--skip-version-check",
        "--set=decision_logs.console=true", tmp_path / "bundle",
    ))  # fmt: skip
    opa.wait_until(lambda: _is_up(port))
    for document in DOCUMENTS:
        body = json.dumps({"input": document}).encode()
        answer = request(port, "/v1/data/envoy/authz/allow", method="POST", body=body)
        decision = json.loads(answer.body)["decision_id"]
        theirs = eventually(lambda decision=decision: _logged(opa.log, decision), "a decision in OPA's log")
        ours = apply_rules(read_rules(await rules.masks(event(document))), document)
        assert orjson.loads(orjson.dumps(ours.input)) == theirs["input"], document
        assert sorted(ours.erased) == sorted(theirs.get("erased", [])), document
        assert sorted(ours.masked) == sorted(theirs.get("masked", [])), document


def _is_up(port: int) -> bool:
    try:
        return fetch(port, "/health")[0] == 200
    except OSError:
        return False


def _logged(log: Path, decision: str) -> dict[str, Any] | None:
    for line in log.read_text(encoding="utf-8").splitlines():
        if decision in line and '"Decision Log"' in line and line.endswith("}"):
            found: dict[str, Any] = json.loads(line)
            return found
    return None
