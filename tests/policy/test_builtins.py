"""The tables of builtins, held against the engine that they describe."""

from __future__ import annotations

import pytest
import regorus

from mixer_py.policy.builtins.table import LACKING, SUPPORTED


def known(name: str, arguments: int) -> str:
    """What the engine says of a call with that many nulls."""
    engine = regorus.Engine()
    values = ", ".join(["null"] * arguments)
    engine.add_policy("p.rego", f"package p\n\nx := [{name}({values})]\n")
    engine.set_input_json("{}")
    try:
        return str(engine.eval_rule_as_json("data.p.x"))
    except RuntimeError as error:
        return str(error)


def test_the_tables_do_not_overlap() -> None:
    assert not LACKING & SUPPORTED.keys()


@pytest.mark.parametrize(("name", "arity"), sorted(SUPPORTED.items()))
def test_a_supported_builtin_takes_its_arguments(name: str, arity: int) -> None:
    answer = known(name, max(arity, 0))
    assert "could not find function" not in answer
    assert f"expects {arity} argument" not in answer
    if arity >= 0:
        assert "expects" in known(name, arity + 3), "any number of arguments is taken"


@pytest.mark.parametrize("name", sorted(LACKING - {"http.send"}))
def test_a_lacking_builtin_is_unknown_to_the_engine(name: str) -> None:
    assert all("could not find function" in known(name, count) for count in range(5))


def test_http_send_is_known_and_always_undefined() -> None:
    assert known("http.send", 1) == '"<undefined>"'
