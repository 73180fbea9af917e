"""Rego v0 as the embedded engine reads it: what becomes of the text, what is refused, and OPA's answers to both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.demo.processes import Ports
from mixer_py.errors import EvaluationError, PolicyLoadError
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.bundles.reading import read_policy
from mixer_py.policy.engines.interpreter import Interpreter
from mixer_py.policy.policy import Policy
from mixer_py.policy.rego.version_zero import as_version_one
from mixer_py.policy.settings import PolicySettings
from mixer_py.policy.testing.suite import read_suite
from tests.parts.engines import plain
from tests.parts.opa_server import Answer, Opa, PolicyRefusedError
from tests.parts.programs import Programs

INPUT = '{"n": 1, "xs": ["k", "m"]}'
TRANSLATED = [
    ("p { input.n }", "p if { input.n }"),
    ("p = 1 { input.n }", "p = 1 if { input.n }"),
    ("p:=1{input.n}", "p:=1 if {input.n}"),
    ("p { input.n } { input.m }", "p if { input.n } { input.m }"),
    (
        "p { input.n } else = `a` # {\n{ true } else{ true }",
        "p if { input.n } else = `a` # {\nif { true } else if { true }",
    ),
    ("p { input.n } else = 3", "p if { input.n } else = 3"),
    ("p[x] { x = 1 }", "p contains x  if { x = 1 }"),
    ("p[x] { x = 1 } { x = 2 }", "p contains x  if { x = 1 }  p contains x  if { x = 2 }"),
    ('p["a]{"]', 'p contains "a]{" '),
    ("p[ # ]\n x ] { x = 1 }", "p contains  # ]\n x   if { x = 1 }"),
    ("p.x { true }", 'p contains "x" if { true }'),
    ("p.x\ndefault q = 1", 'p contains "x"\ndefault q = 1'),
    ("p.q.r", "p.q.r = true"),
    ("p.q[x] { x = 1 }", "p.q[x] if { x = 1 }"),
    ("p[x] = y { x = 1; y = 2 }", "p[x] = y if { x = 1; y = 2 }"),
    ("f(1)", "f(1) = true"),
    ("f(x) = y { y = x }", "f(x) = y if { y = x }"),
    ("p { re_match(`a`, input.a) }", "p if { regex.match(`a`, input.a) }"),
    ("re_match(x) = x\n\np { re_match(1) }", "re_match(x) = x\n\np if { re_match(1) }"),
    ("import future.keywords.if\n\np[x] if { x = 1 }", "import future.keywords.if\n\np[x] if { x = 1 }"),
    ("import rego.v1\n\np if { true }", "import rego.v1\n\np if { true }"),
]
REFUSED = [
    ("p if { true }", "p is no rule: it has neither value nor body"),
    ("p = 1 if { true }", "unexpected keyword `if`"),
    ("p contains x { x = 1 }", "`contains` is no keyword in Rego v0"),
    ("p { in = 1; in == 1 }", "unexpected keyword `in`"),
    ("p { input := 1 }", "input cannot be shadowed"),
    ("p { }", "cannot be read as Rego v0"),
    ("p {", "cannot be read as Rego v0"),
]


def module(rules: str) -> str:
    return f"package p\n\n{rules}\n"


@pytest.mark.parametrize(("rules", "translated"), TRANSLATED)
def test_what_becomes_of_the_text(rules: str, translated: str) -> None:
    assert as_version_one(module(rules), "p.rego") == module(translated)


@pytest.mark.parametrize(("rules", "message"), REFUSED)
def test_what_has_no_certain_form_is_refused_with_its_place(rules: str, message: str) -> None:
    with pytest.raises(PolicyLoadError) as caught:
        as_version_one(module(rules), "p.rego")
    (fault,) = caught.value.faults
    assert message in fault.message
    assert fault.file == "p.rego"
    assert fault.line >= 3
    assert "policy.rego_version: v1" in fault.way_out


def test_a_policy_in_v0_is_told_of_the_setting_by_which_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package envoy.authz\n\nallow { input.n }\n")
    with pytest.raises(PolicyLoadError, match=r"p\.rego:3: .*set policy\.rego_version: v0"):
        Policy.load(PolicySettings(bundles=(str(tmp_path),)))
    bundle = read_policy(PolicySettings(bundles=(str(tmp_path),), rego_version="v0"))
    assert bundle.modules[0].text.splitlines()[2] == "allow if { input.n }"


def test_the_version_is_part_of_the_revision(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package p\n\nimport rego.v1\n\nx := 1\n")
    one, zero = (read_policy(PolicySettings(bundles=(str(tmp_path),), rego_version=name)) for name in ("v1", "v0"))
    assert one.modules == zero.modules
    assert one.digest != zero.digest


def test_tests_in_v0(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package p\n\nx { true }\n")
    (tmp_path / "p_test.rego").write_text("package p\n\ntest_x { x }\n")
    suite = read_suite([str(tmp_path)], 0)
    assert [one.text.splitlines()[2] for one in (*suite.bundle.modules, *suite.tests)] == [
        "x if { true }",
        "test_x if { x }",
    ]


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    server = Opa(module_programs, ports, language="v0")
    yield server
    server.close()


def ours(text: str) -> Answer:
    """The whole package's value.

    Raises:
        PolicyLoadError: the policy is refused.
    """
    bundle = Bundle((Module("p.rego", as_version_one(text, "p.rego")),), {}, (), "")
    try:
        value = json.loads(Interpreter(bundle, ["p"], lambda _: None).evaluate("p", INPUT))
    except EvaluationError:
        return Answer("error")
    return Answer("undefined") if value == "<undefined>" else Answer("value", value[0])


@pytest.mark.opa
@pytest.mark.parametrize("rules", [rules for rules, _ in TRANSLATED])
def test_opa_says_the_same_of_each_form(opa: Opa, rules: str) -> None:
    with opa.holding(module(rules), "{}"):
        wanted = opa.evaluate("p", INPUT)
    assert plain(ours(module(rules))) == plain(wanted)


BODIES = st.sampled_from(
    (
        "true",
        "false",
        "input.n == 1",
        "not input.t",
        'input.xs[_] == "k"',
        "count({y | y = input.xs[_]}) > 1\n\ttrue # }",
    )
)
VALUES = st.sampled_from(("1", '"a{"', "[1]", "{1}", '{"a": input.n}', "input.xs", "`b`"))
FORMS = (
    "a{index} {{ {body} }}",
    "a{index} = {value} {{ {body} }}",
    "a{index} := {value} {{ {body} }} else = {other} {{ {second} }} else {{ true }}",
    "a{index}{{{body}\n}} {{ {second}\n}}",
    "a{index} = {value}",
    "default a{index} = {value}",
    "s[x] {{ x = input.xs[_]; {body}\n}}",
    "s[{value}]",
    "s.k {{ {body}\n}}",
    "s[{value}] {{ {body}\n}} {{ {second}\n}}",
    "o{index}[x] = {value} {{ x = input.xs[_]; {body}\n}}",
    "o{index}.k = {value} {{ {body}\n}}",
    "r{index}.q.z = {value} {{ {body}\n}}",
    "r{index}.q[x] {{ x = input.xs[_]; {body}\n}}",
    "f{index}(x) = {value} {{ x == 1; {body}\n}} else = x\n\nv{index} = f{index}(input.n)",
)


@st.composite
def generated(draw: st.DrawFn) -> str:
    rules = [
        draw(st.sampled_from(FORMS)).format(
            index=index, body=draw(BODIES), second=draw(BODIES), value=draw(VALUES), other=draw(VALUES)
        )
        for index in range(draw(st.integers(1, 5)))
    ]
    return module("\n\n".join(rule.replace("# } }", "# }\n}").replace("# }}", "# }\n}") for rule in rules))


def unordered(answer: Answer) -> str:
    """An answer without the order of its members: sets that hold sets and objects are written in another one."""

    def put_in_order(value: object) -> object:
        if isinstance(value, dict):
            return {key: put_in_order(member) for key, member in value.items()}
        if isinstance(value, list):
            return sorted(map(put_in_order, value), key=lambda member: json.dumps(member, sort_keys=True))
        return value

    return plain(replace(answer, value=put_in_order(answer.value)))


@pytest.mark.opa
@settings(max_examples=60, deadline=None)
@given(text=generated())
def test_opa_says_the_same_of_generated_policies(opa: Opa, text: str) -> None:
    try:
        with opa.holding(text, "{}"):
            wanted = opa.evaluate("p", INPUT)
    except PolicyRefusedError:
        wanted = None
    if wanted is not None:
        assert unordered(ours(text)) == unordered(wanted), text
