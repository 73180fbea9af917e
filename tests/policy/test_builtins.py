"""The tables of builtins, held against the engine, the functions in Python, and OPA's own declarations."""

from __future__ import annotations

import json
from typing import Any

import pytest
import regorus

from mixer_py.policy.builtins.corrected import EXTENSIONS, add_corrected
from mixer_py.policy.builtins.table import ARGUMENTS, LACKING, SPRINTF, SUPPORTED
from tests.parts.opa_module import find_opa_module

KINDS = {"number": "n", "string": "s", "boolean": "b", "null": "z", "array": "a", "object": "o", "set": "t"}
NATIVE_BUT_REFUSED = {"http.send", "json.match_schema", "json.verify_schema"}


def known(name: str, arguments: int, *, with_python: bool) -> str:
    """What the engine says of a call with that many nulls."""
    engine = regorus.Engine()
    if with_python:
        add_corrected(engine)
    values = ", ".join(["null"] * arguments)
    engine.add_policy("p.rego", f"package p\n\nx := [{name}({values})]\n")
    engine.set_input_json("{}")
    try:
        return str(engine.eval_rule_as_json("data.p.x"))
    except RuntimeError as error:
        return str(error)


def test_the_tables_do_not_overlap() -> None:
    assert not LACKING & SUPPORTED.keys()


def test_the_functions_in_python_are_in_the_table() -> None:
    assert {name: SUPPORTED.get(name) for name in EXTENSIONS} == EXTENSIONS


@pytest.mark.parametrize(("name", "arity"), sorted(SUPPORTED.items()))
def test_a_supported_builtin_takes_its_arguments(name: str, arity: int) -> None:
    answer = known(name, max(arity, 0), with_python=True)
    assert "could not find function" not in answer
    assert f"expects {arity} argument" not in answer
    assert "incorrect number of parameters" not in answer
    if arity >= 0:
        more = known(name, arity + 3, with_python=True)
        assert "expects" in more or "incorrect number of parameters" in more, "any number of arguments is taken"


@pytest.mark.parametrize("name", sorted(LACKING - NATIVE_BUT_REFUSED))
def test_a_lacking_builtin_is_unknown_to_the_engine(name: str) -> None:
    assert all("could not find function" in known(name, count, with_python=False) for count in range(5))


def test_http_send_is_known_and_always_undefined() -> None:
    assert known("http.send", 1, with_python=False) == '"<undefined>"'


def kinds(declared: Any) -> str:
    if declared["type"] == "any":
        return "".join(sorted({letter for one in declared["of"] for letter in kinds(one)})) if "of" in declared else "x"
    return KINDS[declared["type"]]


@pytest.mark.opa_module
def test_names_and_types_are_those_of_opa() -> None:
    folder = find_opa_module()
    assert folder is not None
    declared = {
        one["name"]: ("*",) if "variadic" in one["decl"] else tuple(map(kinds, one["decl"].get("args", ())))
        for one in json.loads((folder / "capabilities.json").read_text(encoding="utf-8"))["builtins"]
        if not one["name"].startswith("internal.")
    }
    assert declared.keys() == (LACKING | SUPPORTED.keys()) - {SPRINTF}
    assert {name: one for name, one in declared.items() if name in SUPPORTED} | {SPRINTF: ("s", "a")} == ARGUMENTS
