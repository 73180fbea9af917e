"""Heads with dots: an object none of whose rules holds is there, and empty, as in OPA."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mixer_py.demo.processes import Ports
from mixer_py.policy.bundles.bundle import Module
from mixer_py.policy.engines.parsing import ready_modules
from tests.parts.engines import evaluate, plain
from tests.parts.opa_server import Opa
from tests.parts.programs import Programs

RULES = (
    "r.a := 1 if { false }",
    "r.a if { false }",
    "r.a := 1 if { false }\nr.b := 2 if { true }",
    "r.a := 1 if { false } else := 2",
    "r.a.b := 1 if { false }",
    'r["a"].b := 1 if { false }',
    "r.a := 1\nr.b.c := 2 if { false }\nr[x] := 3 if { x := `k` }",
    "default r.a := 1\nr.a := 2 if { false }\nr.b := 3",
    "r.if := 1 if { false }",
    "r.a :=\n1 if { false }",
)


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    server = Opa(module_programs, ports)
    yield server
    server.close()


def module(rules: str) -> str:
    return f"package single\n\n{rules}\n\nvalue := r\n"


@pytest.mark.opa
@pytest.mark.parametrize("rules", RULES)
def test_it_is_as_in_opa(opa: Opa, rules: str) -> None:
    with opa.holding(module(rules), "{}"):
        wanted = opa.evaluate("single/value", "{}")
    assert plain(evaluate(module(rules))) == plain(wanted)


def test_an_object_without_members_is_empty() -> None:
    assert plain(evaluate(module(RULES[0]))) == f"value {json.dumps({})}"


def test_lines_stay_and_bodies_are_left_alone() -> None:
    text = "package p\n\nr.a :=\n  x.y if {\n\tx.y = input.z\n}\nf.g(x) := x\n"
    (written,) = ready_modules([Module("p.rego", text)])
    assert written.text == text.replace("r.a :=", 'r["a"] :=')
