"""Modules rewritten so that a builtin's error is undefined decide as they did, wherever nothing fails."""

from __future__ import annotations

import itertools

import orjson
import pytest

from mixer_py.errors import EvaluationError
from mixer_py.policy.bundles.reading import Bundle, Module
from mixer_py.policy.engines.interpreter import Interpreter

HEAD = "package p\n\n"
EXPRESSIONS = [
    "input.a + input.b * (input.a - 1)",
    "(input.a + 2) * (3 - (input.b))",
    "((input.a)) % 7 # a % comment\n",
    "input.a # why + not\n + input.b",
    "{x | some x in [input.a, input.b]} - {input.a}",
    "{input.a} & {input.b} | {9}",
    "count([x | x := input.list[_]; x > 1]) + sum(input.list)",
    'concat("é", [upper("é"), sprintf("%d%%", [input.a])])',
    '{k: v | some k, v in input.object; startswith(k, "a")}',
    'split("a,b", ",")[input.index]',
    "[y | some x in input.list; y := x / 2]",
    "max({x | some x in numbers.range(1, input.a)})",
    'object.get(input.object, "a", 3 - 1)',
    "[w | walk(input.object, [_, w])]",
    'json.marshal({"a": [input.a - 1]})',
]
INPUT = {"a": 5, "b": 3, "list": [1, 2, 3], "object": {"ab": 1, "a": {"c": "d"}}, "index": 1}


UNDEFINED = "<undefined>"


def evaluate(engine: Interpreter, input_json: str) -> object:
    value = orjson.loads(engine.evaluate("p/value", input_json))
    return value if value == UNDEFINED else value[0]


def make(text: str) -> Interpreter:
    return Interpreter(Bundle((Module("p.rego", text),), {}, (), ""), ["p/value"], lambda _: None)


def both(engine: Interpreter, document: object) -> tuple[object, object]:
    """What the engine and its tolerant twin say."""
    text = orjson.dumps(document).decode()
    twin = engine._evaluate_tolerant("data.mixer_decision.value_0", text, RuntimeError())
    return evaluate(engine, text), orjson.loads(twin)[0]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_where_nothing_fails_both_agree(expression: str) -> None:
    plain, tolerant = both(make(f"{HEAD}value := {expression}\n"), INPUT)
    assert plain == tolerant


@pytest.mark.parametrize(("left", "right"), list(itertools.product("+-*/%&|", repeat=2)))
def test_operators_keep_their_order(left: str, right: str) -> None:
    """Every pair of operators, of which some cannot work on these values: then both have nothing to say."""
    engine = make(f'{HEAD}default value := "undefined"\n\nvalue := 17 {left} input.a {right} (input.b {left} 2)\n')
    assert engine.tolerates
    text = orjson.dumps(INPUT).decode()
    twin = orjson.loads(engine._evaluate_tolerant("data.mixer_decision.value_0", text, RuntimeError()))[0]
    assert twin == evaluate(engine, text)
    engine._tolerant = None
    try:
        assert evaluate(engine, text) == twin
    except EvaluationError:
        assert twin == "undefined"


@pytest.mark.parametrize(
    "expression",
    [
        'startswith(input.a, "x")',
        "input.object + 1",
        "input.a / (input.b - 3)",
        'base64.decode("%")',
        'json.unmarshal("{")',
        'to_number("x")',
        'sum(["a"])',
        'regex.match("(", "a")',
        'time.parse_rfc3339_ns("never")',
        'net.cidr_contains("x", "y")',
    ],
)
def test_an_error_is_undefined_where_it_stands(expression: str) -> None:
    engine = make(
        f'{HEAD}value := {{"before": 1, "failed": failed}}\n\ndefault failed := true\n\nfailed := {expression}\n'
    )
    text = orjson.dumps(INPUT).decode()
    assert evaluate(engine, text) == {"before": 1, "failed": True}
    assert evaluate(make(f"{HEAD}value := {expression}\n"), text) == UNDEFINED


@pytest.mark.parametrize(
    "expression",
    [
        "count(objects)",
        "count(objects - {1})",
        "count(objects | {2})",
        "count(objects & objects)",
        "max(objects)",
        "min([objects])",
        "sort(objects)",
        'object.get({"a": objects}, "a", 1)',
        "json.marshal(objects)",
        "is_set(objects)",
        "type_name(objects)",
    ],
)
def test_sets_of_objects_survive_an_error_elsewhere(expression: str) -> None:
    """Python has no such sets, so they must not be handed to it."""
    failing = 'failed if some x in input.text\n\nobjects contains {"a": n} if some n in [1, 2]\n\n'
    engine = make(f'{HEAD}{failing}default value := "undefined"\n\nvalue := {expression} if not failed\n')
    assert evaluate(engine, '{"text": "abc"}') == evaluate(engine, '{"text": []}') != "undefined"


def test_an_output_argument_is_kept() -> None:
    plain, tolerant = both(make(f'{HEAD}value := out if split("a-b", "-", out)\n'), INPUT)
    assert plain == tolerant == ["a", "b"]


def test_the_policys_own_functions_are_called_as_they_are() -> None:
    text = f'{HEAD}upper(x) := [x]\n\nvalue := upper(lower("A"))\n'
    plain, tolerant = both(make(text), INPUT)
    assert plain == tolerant == ["a"]


def test_a_conflict_stays_an_error() -> None:
    engine = make(f"{HEAD}value := 1 if input.a\n\nvalue := 2 if input.b\n")
    with pytest.raises(EvaluationError, match="conflict"):
        evaluate(engine, orjson.dumps(INPUT).decode())


def test_with_that_replaces_a_function_is_not_rewritten() -> None:
    text = f"{HEAD}mock(_) := 7\n\nvalue := x if {{\n  x := count([input.a]) with count as mock\n}}\n"
    engine = make(text)
    assert not engine.tolerates
    assert evaluate(engine, orjson.dumps(INPUT).decode()) == 7


def test_with_that_replaces_input_is() -> None:
    text = f"{HEAD}inner := input.a + 1\n\nvalue := x if {{\n  x := inner with input.a as 1 + 1\n}}\n"
    engine = make(text)
    assert engine.tolerates
    plain, tolerant = both(engine, INPUT)
    assert plain == tolerant == 3
