"""Which of several decisions a request asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from pydantic import ValidationError

from mixer_py.config import load as load_configuration
from mixer_py.errors import ConfigurationError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.point import Refusal
from mixer_py.policy.policy import NO_BUNDLE, Policy
from mixer_py.policy.selection import Selection
from mixer_py.policy.selection_settings import UNSELECTED, DecisionSettings
from mixer_py.policy.settings import PolicySettings

DECISIONS: list[dict[str, Any]] = [
    {"name": "gold", "path": "a/gold", "match": {"context_extensions": {"tenant": "gold", "tier": "1"}}},
    {"name": "cards", "path": "a/cards", "match": {"hosts": ["pay.example.com"], "path_prefixes": ["/cards", "/pin"]}},
    {"name": "pay", "path": "a/pay", "match": {"hosts": ["pay.example.com", "*.pay.example.com"]}},
    {"name": "admin", "path": "a/admin", "match": {"path_prefixes": ["/admin"]}},
    {"name": "vault", "path": "a/vault", "match": {"hosts": ["vault.test"], "namespaces": ["secrets", "keys"]}},
    {"name": "named", "path": "a/named"},
]


def make(decisions: list[dict[str, Any]] = DECISIONS, *, dry_run: bool = False) -> Selection:
    settings = [DecisionSettings.model_validate(one) for one in decisions]
    points = [Refusal(one.path, one.name, dry_run=one.dry_run, name=one.name) for one in settings]
    return Selection(settings, points, Refusal("a/allow", "default", dry_run=False), dry_run=dry_run)


def ask(
    host: str = "shop.test", path: str = "/", principal: str = "", extensions: Mapping[str, str] | None = None
) -> CheckRequest:
    request = CheckRequest()
    request.attributes.request.http.host, request.attributes.request.http.path = host, path
    request.attributes.destination.principal = principal
    request.attributes.context_extensions.update(extensions or {})
    return request


def spiffe(namespace: str) -> str:
    return f"spiffe://cluster.local/ns/{namespace}/sa/web"


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (ask(), "a/allow"),
        (ask("pay.example.com", "/cards/7?x=/admin"), "cards"),
        (ask("pay.example.com", "/pin"), "cards"),
        (ask("PAY.example.com:8443", "/pinned"), "pay"),
        (ask("eu.pay.example.com", "/cards"), "pay"),
        (ask("shop.test", "/cards"), "a/allow"),
        (ask("shop.test", "/admin/users"), "admin"),
        (ask("pay.example.com", "/admin"), "pay"),
        (ask("vault.test", "/", spiffe("keys")), "vault"),
        (ask("vault.test", "/", spiffe("web")), "a/allow"),
        (ask(extensions={"tenant": "gold", "tier": "1", "more": "x"}), "gold"),
        (ask(extensions={"tenant": "gold", "tier": "2"}), "a/allow"),
        (ask(extensions={"tenant": "gold"}), "a/allow"),
        (ask("pay.example.com", extensions={"decision": "named"}), "named"),
        (ask("pay.example.com", extensions={"decision": "cards"}), "cards"),
        (ask("pay.example.com", extensions={"decision": "default"}), "a/allow"),
        (CheckRequest(), "a/allow"),
    ],
)
def test_the_first_whose_conditions_all_hold_decides_else_the_default(request_: CheckRequest, name: str) -> None:
    selection = make()
    assert [selection.select(request_).name for _ in range(2)] == [name] * 2  # hosts are remembered


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask(extensions={"decision": "unheard"}), "no decision 'unheard', which context_extensions names"),
        (ask(extensions={"decision": ""}), "no decision ''"),
        (ask("pay.example.com@evil.test"), "'pay' is asked for cannot be told: the host is malformed"),
        (ask("pay.example.com", "/cards%2f7"), "'cards' is asked for cannot be told: the path can be read"),
        (ask("shop.test", "/x/../admin"), "'admin' is asked for cannot be told: the path can be read"),
        (ask("shop.test", "//admin"), "'admin' is asked for cannot be told: the path can be read"),
        (ask("vault.test"), "'vault' is asked for cannot be told: the destination has no principal"),
        (ask("vault.test", "/", "spiffe://cluster.local/web"), "the destination has no principal with a namespace"),
        (ask("vault.test", "/", "vault.test"), "the destination has no principal with a namespace"),
    ],
)
async def test_what_cannot_be_told_is_denied_with_a_reason(request_: CheckRequest, reason: str) -> None:
    point = make().select(request_)
    decision = (await point.decide(request_)).decision
    assert (point.name, decision.allowed) == (UNSELECTED, False)
    assert reason in decision.reasons[0]
    assert not point.dry_run
    assert make(dry_run=True).select(request_).dry_run


def test_a_doubt_is_none_where_another_condition_rules_the_decision_out() -> None:
    selection = make()
    assert selection.select(ask("other.test", "/cards%2f7")).name == "a/allow"  # not the host of `cards`
    assert selection.select(ask("pay.example.com", "/x%2fadmin")).name == "pay"  # no prefix begins with x
    assert selection.select(ask("other.test", "/", "")).name == "a/allow"  # no principal, and not the host of `vault`


async def test_a_path_that_cannot_be_parsed_is_that_fault_and_no_denial_of_ours() -> None:
    request = ask("shop.test", "/%zz")
    with pytest.raises(RequestParseError, match="invalid URL escape"):
        await make().select(request).decide(request)


def test_a_crowd_of_hosts_is_not_remembered_for_ever() -> None:
    selection = make()
    for number in range(10_000):
        assert selection.select(ask(f"h{number}.test", "/admin")).name == "admin"
    assert len(selection._by_host) <= 4096


@pytest.mark.parametrize(
    ("decision", "place", "message"),
    [
        ({"match": {}}, ("match",), "an empty match is for no request"),
        ({"match": {"hosts": []}}, ("match",), "an empty match"),
        ({"match": {"host": ["a"]}}, ("match", "host"), "not permitted"),
        ({"match": {"hosts": ["a.test:80"]}}, ("match", "hosts", 0), "has a port"),
        ({"match": {"hosts": ["a.*.test"]}}, ("match", "hosts", 0), "is no host"),
        ({"match": {"hosts": ["*a*"]}}, ("match", "hosts", 0), "is no host"),
        ({"match": {"hosts": ["http://a.test"]}}, ("match", "hosts", 0), "is no host"),
        ({"match": {"hosts": [""]}}, ("match", "hosts", 0), "is no host"),
        ({"match": {"path_prefixes": ["pay"]}}, ("match", "path_prefixes", 0), "write it as /pay"),
        ({"match": {"path_prefixes": ["/a/../b"]}}, ("match", "path_prefixes", 0), "empty or dotted segment"),
        ({"match": {"path_prefixes": ["/a%20b"]}}, ("match", "path_prefixes", 0), "decoded segments"),
        ({"match": {"path_prefixes": ["//a"]}}, ("match", "path_prefixes", 0), "empty or dotted segment"),
        ({"match": {"namespaces": ["a/b"]}}, ("match", "namespaces", 0), "is no namespace"),
        ({"match": {"context_extensions": {"decision": "x"}}}, ("match",), "call this one 'x'"),
        ({"name": "default"}, ("name",), "taken by mixer itself"),
        ({"name": "unselected"}, ("name",), "taken by mixer itself"),
        ({"name": "a b"}, ("name",), "is no name"),
        ({"path": "a//b"}, ("path",), "is no path of a rule"),
        ({"paht": "a"}, ("paht",), "not permitted"),
    ],
)
def test_faults_are_found_at_load_at_their_place(
    decision: dict[str, Any], place: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        PolicySettings(decisions=[{"name": "x", "path": "a/b", **decision}])  # type: ignore[list-item]
    (error,) = caught.value.errors()
    assert error["loc"] == ("decisions", 0, *place)
    assert message in error["msg"]


def test_faults_name_file_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "mixer.yaml"
    file.write_text(
        "policy:\n  decisions:\n    - {name: pay, path: a/b}\n    - name: pay\n      path: a/c\n"
        "    - name: cards\n      path: a/c\n      match:\n        hots: [a.test]\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(file, {})
    faults = {fault.field: fault for fault in caught.value.faults}
    misspelt = faults["policy.decisions.2.match.hots"]
    assert misspelt.place == f"{file}:9"
    assert "hosts" in misspelt.way_out
    file.write_text(file.read_text().replace("hots", "hosts"))
    with pytest.raises(
        ConfigurationError, match=r"mixer.yaml:\d+: policy.decisions: decisions 0 and 1 are both called 'pay'"
    ):
        load_configuration(file, {})


def test_hosts_are_kept_in_lower_case() -> None:
    match = DecisionSettings.model_validate(
        {"name": "x", "path": "/a/b/", "match": {"hosts": ["PAY.Example.com"], "path_prefixes": ["/pay/", "/"]}}
    ).match
    assert match is not None
    assert (match.hosts, match.path_prefixes) == (("pay.example.com",), ("/pay/", "/"))
    selection = make([{"name": "x", "path": "a", "match": {"path_prefixes": ["/pay/"]}}])
    assert selection.select(ask(path="/pay")).name == "x"


REGO = """package authz

web := true

pay := {"allowed": false, "reasons": ["closed"]}
"""


async def test_every_decision_is_evaluated_by_its_own_rule_and_may_be_dry(load: Callable[..., Policy]) -> None:
    decisions = [
        {"name": "pay", "path": "authz/pay", "match": {"path_prefixes": ["/pay"]}, "dry_run": True},
        {"name": "till", "path": "authz/pay", "match": {"path_prefixes": ["/till"]}},
        {"name": "gone", "path": "authz/gone", "match": {"path_prefixes": ["/gone"]}},
    ]
    policy = load(REGO, decision="authz/web", decisions=decisions)
    found = {}
    for path in ("/", "/pay", "/till"):
        point = policy.select(ask(path=path))
        found[path] = (point.name, point.dry_run, (await point.decide(ask(path=path))).decision.allowed)
    assert found == {"/": ("authz/web", False, True), "/pay": ("pay", True, False), "/till": ("till", False, False)}
    assert [point.name for point in policy.points] == ["pay", "till", "gone", "authz/web"]
    with pytest.raises(UndefinedDecisionError):
        await policy.select(ask(path="/gone")).decide(ask(path="/gone"))
    described = policy.describe()["decisions"]
    assert {"name": "pay", "path": "authz/pay", "dry_run": True}.items() <= described[0].items()
    assert load(REGO, decision="authz/web", decisions=decisions[:1]).revision != policy.revision
    assert load(REGO, decision="authz/web", decisions=decisions, dry_run=True).points[-1].dry_run


async def test_without_a_bundle_every_decision_is_a_denial() -> None:
    policy = Policy.load(PolicySettings(decisions=DECISIONS))  # type: ignore[arg-type]
    ruling = await policy.select(ask("pay.example.com")).decide(ask())
    assert (ruling.decision.allowed, ruling.decision.reasons) == (False, (NO_BUNDLE,))
