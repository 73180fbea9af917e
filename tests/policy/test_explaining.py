"""What is said of how a decision came about: rules that held, where others stopped, what was read, what it cost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import EvaluationError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.bundles.reading import read_bundles, read_policy
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import NoWatch
from mixer_py.policy.explaining.account import account_for
from mixer_py.policy.explaining.held import mark_rules, trace_rules
from mixer_py.policy.explaining.interpreter import Watched, WatchedInterpreter, parse
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from tests.policy.test_cases import load_settings

ROOT = Path(__file__).parents[2]
CASES = sorted(
    path.parent
    for path in (ROOT / "tests" / "cases" / "ext_authz").glob("*/policy.rego")
    if path.read_text().count("\n") > 9 and (path.parent / "request.json").exists()
)
"""Those with more than a line or two of policy."""

FORMS = """package p

import rego.v1

a if input.text == "é"
b := y if y := input.n
c := 1 if (input.n == 1) # why
d := [x | x := input.list[_]] if not (input.none)
e(x) := 1 if x == `raw "text"`
else := 2 if { x == "two" } else := 3
f contains x if { some x in input.list; x > 1 } # trailing
g if every x in input.list { x > 0 }
h["k"] := 1 if { (input.n) # first
  ; input.text }
i if { input.text with input.text as "q" }
j if input["a b"] == "z" with input["a b"] as "z"
k if {
  x = y + 1
  y = input.n
  x == 3
}
l := {"a": 1, "b": 2}[input.key] if input.key in {"a"}
m if {
  "a" in {"a": 1, "b": "a"}
  {"a": 1, "b": 2}[input.key] == 1
  "é}" == "é}"
}
n.o.p := 1 if input.n
n.q[x] := y if { y := 1; some x in input.list }
q if {x: y | some x, y in input.list}
r contains "x"
s := e(input.text) + e("two")
"""
FORMS += "".join(f'decision contains ["{name}", {name}]\n' for name in [*"abcdfghijklmqrs", "n.o.p", "n.q"])


def bundle_of(text: str) -> Bundle:
    return Bundle((Module("p.rego", text),), {}, (), "")


def held(bundle: Bundle, decision: str, document: object) -> list[tuple[str, int, int | None]]:
    """Rule, line, and the line at which it stopped."""
    _, traces = trace_rules(bundle, decision, orjson.dumps(document).decode())
    return [(".".join(trace.body.rule[2:]), trace.body.line, trace.stopped and trace.stopped.line) for trace in traces]


def unmarked(bundle: Bundle, decision: str, input_json: str) -> tuple[str, object]:
    engine = EmbeddedEngine(bundle, [decision], NoWatch())
    try:
        return "value", asyncio.run(engine.evaluate(decision, input_json)).value
    except UndefinedDecisionError:
        return "undefined", None
    except EvaluationError:
        return "error", None


def kind_of(watched: Watched) -> tuple[str, object]:
    return ("value" if watched.defined else "error" if watched.error else "undefined"), watched.value


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"text": "é", "n": 1, "list": [1, 2], "key": "a"},
        {"text": "two", "n": 2, "list": [2, 3], "key": "b"},
        {"text": 'raw "text"', "n": 2, "list": [0], "none": True},
        {"text": 7, "n": "x", "list": "no list"},
    ],
)
def test_marks_change_nothing(document: object) -> None:
    """Every form a body can have: braces or none, comments, texts and objects at its ends."""
    bundle = bundle_of(FORMS)
    text = orjson.dumps(document).decode()
    watched, traces = trace_rules(bundle, "p/decision", text)
    assert kind_of(watched) == unmarked(bundle, "p/decision", text)
    assert isinstance(watched.value, list)
    assert len(watched.value) >= 3
    assert len(traces) >= 16


def test_lines_stay_where_they_are() -> None:
    modules, bodies = mark_rules(parse([Module("p.rego", FORMS)]))
    assert modules[0].text.count("\n") == FORMS.count("\n")
    lines = FORMS.splitlines()
    for body in bodies:
        for statement in body.statements:
            assert statement.text.split()[0] in lines[statement.line - 1]


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_marks_change_no_case(folder: Path) -> None:
    bundle = read_policy(load_settings(folder))
    request = json_format.Parse((folder / "request.json").read_text(), CheckRequest())
    try:
        text = InputBuilder().build(request)
    except RequestParseError:
        return
    decision = "envoy/authz/allow"
    watched, _ = trace_rules(bundle, decision, text)
    try:
        assert kind_of(watched) == unmarked(bundle, decision, text)
    except RequestParseError:
        assert watched.error


def test_what_held_and_where_the_rest_stopped() -> None:
    text = (
        "package p\n\nallow if {\n\tinput.a == 1\n\tsome x in input.b\n\tx == 2\n}\n\n"
        "allow if input.c\n\nnever if input.d\n\nvalue := 1 if {\n\tinput.a == 2\n} else := 2 if {\n\tallow\n}\n"
    )
    document = {"a": 1, "b": [1, 2], "c": False}
    assert held(bundle_of(text), "p/value", document) == [
        ("allow", 3, None), ("allow", 9, 9), ("value", 13, 14), ("value", 15, None),
    ]  # fmt: skip
    document["b"] = [1, 3]
    assert held(bundle_of(text), "p/value", document) == [
        ("allow", 3, 6), ("allow", 9, 9), ("value", 13, 14), ("value", 15, 16),
    ]  # fmt: skip


def test_a_statement_that_waits_for_another_is_not_said_to_hold_early() -> None:
    text = "package p\n\nallow if {\n\tx = y + 1\n\ty = input.n\n\tx == 3\n}\n"
    assert held(bundle_of(text), "p/allow", {"n": 2}) == [("allow", 3, None)]
    assert held(bundle_of(text), "p/allow", {"n": 5})[0][2] is not None


def test_a_statement_may_wait_for_what_python_has_not() -> None:
    text = 'package p\n\nallow if {\n\tx = {{"a": y}}\n\ty = input.n\n\tcount(x) == 1\n}\n'
    assert held(bundle_of(text), "p/allow", {"n": 2}) == [("allow", 3, None)]


def test_a_builtins_error_stops_where_it_stands() -> None:
    text = 'package p\n\ndefault allow := false\n\nallow if {\n\tinput.n\n\tstartswith(input.n, "a")\n\tinput.x\n}\n'
    assert held(bundle_of(text), "p/allow", {"n": 3}) == [("allow", 5, 7)]


NUMBERS = st.integers(0, 3)
CONDITIONS = st.sampled_from(
    ["input.a == {n}", "not input.b == {n}", "some x in input.c; x > {n}", "input.d[_] == {n}", "count(input.c) > {n}"]
)


@st.composite
def policies(draw: st.DrawFn) -> str:
    """Rules with bodies of a few conditions."""
    rules = []
    for index in range(draw(st.integers(1, 4))):
        conditions = draw(
            st.lists(st.builds(lambda one, n: one.format(n=n), CONDITIONS, NUMBERS), min_size=1, max_size=3)
        )
        lines = [condition.replace("x", f"x{index}{place}") for place, condition in enumerate(conditions)]
        body = "\n\t".join(line.replace("; ", "\n\t") for line in lines)
        rules.append(f"allow if {{\n\t{body}\n}}\n")
    return "package p\n\ndefault allow := false\n\n" + "\n".join(rules)


INPUTS = st.fixed_dictionaries(
    {}, optional={"a": NUMBERS, "b": NUMBERS, "c": st.lists(NUMBERS, max_size=3), "d": st.lists(NUMBERS, max_size=2)}
)


@given(policies(), INPUTS)
@settings(max_examples=40, deadline=None)
def test_a_decision_is_true_exactly_when_a_body_of_it_held(text: str, document: object) -> None:
    watched, traces = trace_rules(bundle_of(text), "p/allow", orjson.dumps(document).decode())
    assert watched.value is any(trace.stopped is None for trace in traces)


def test_prints_are_kept_with_their_places() -> None:
    interpreter = WatchedInterpreter(
        [Module("p.rego", 'package p\n\nx if {\n\tprint("hello", input.none)\n}\n')], {}, ["data.p.x"], {}
    )
    watched = interpreter.evaluate("data.p.x", "{}")
    assert watched.defined
    assert watched.prints == ("p.rego:4: hello <undefined>",)


def read(sample: str, case: str) -> tuple[PolicySettings, Bundle, CheckRequest]:
    folder = ROOT / "policies" / sample
    bundles = (str(folder / "bundle"), *([str(folder / "sample_keys")] if (folder / "sample_keys").exists() else []))
    request = json_format.Parse((folder / "cases" / case / "request.json").read_text(), CheckRequest())
    chosen = PolicySettings(bundles=bundles, decision="envoy/authz/result")
    return chosen, read_bundles(bundles), request


async def test_the_account_of_a_decision() -> None:
    chosen, bundle, request = read("rbac", "guest_may_not_write")
    policy = Policy.compile(chosen, bundle)
    account = await account_for(chosen, bundle, policy, request)
    assert account.point is not None
    assert account.reads is not None
    assert account.rules is not None
    reads = {one.reference: one.value for one in account.reads}
    assert reads["input.attributes.request.http.method"] == "POST"
    assert str(reads["input.attributes.request.http.headers.authorization"]).startswith("sha256:")
    assert "YW5u" not in repr(account)
    assert (account.again, account.cached) != (None, None)
    stopped = {".".join(trace.body.rule): trace.stopped.text for trace in account.rules if trace.stopped is not None}
    assert stopped["data.envoy.authz.allow"] == "action.method == http_request.method"


async def test_what_is_not_there_is_said_to_be_absent() -> None:
    chosen, bundle, request = read("rbac", "no_user")
    account = await account_for(chosen, bundle, Policy.compile(chosen, bundle), request)
    absent = [one.reference for one in account.reads or () if not one.present]
    assert absent == ["input.attributes.request.http.headers.authorization"]


async def test_why_a_decision_is_slower_and_not_kept() -> None:
    chosen, bundle, request = read("jwt_roles", "reader_reads")
    account = await account_for(chosen, bundle, Policy.compile(chosen, bundle), request)
    assert "io.jwt.decode_verify" in account.why_tier
    assert account.point is not None
    assert "io.jwt.decode_verify" in account.point.why
    assert account.cached is None


async def test_without_a_policy_there_is_little_to_say(make_request) -> None:
    chosen = PolicySettings()
    bundle = read_bundles(())
    account = await account_for(chosen, bundle, Policy.compile(chosen, bundle), make_request())
    assert account.point is None
    assert account.rules is None


async def test_a_request_that_cannot_be_parsed_has_no_rules(make_request, load) -> None:
    chosen, bundle, _ = read("rbac", "no_user")
    account = await account_for(chosen, bundle, Policy.compile(chosen, bundle), make_request("/%zz"))
    assert account.rules is None
    assert account.point is not None
    assert account.point.key is None
