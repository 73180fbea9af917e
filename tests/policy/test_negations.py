"""A negation covers no more of its expression than in OPA: an absent field does not make it true.

What is wanted here is what OPA 1.22 says; test_tiers.py asks it.
"""

from __future__ import annotations

import json

import orjson
import pytest

from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.engines.interpreter import Interpreter
from mixer_py.policy.engines.parsing import ready_modules
from mixer_py.policy.engines.rvm import Machine

DECISION = "p/value"
FALLS = "<undefined>"
HOLDS = [1]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('not startswith(input.x, "a")', FALLS),
        ('not startswith(lower(input.x), "a")', FALLS),
        ('not lower(input.x) == "a"', FALLS),
        ("not lower(input.x)", FALLS),
        ("not count([lower(input.x)]) == 1", FALLS),
        ("not f(input.x)", FALLS),
        ("not f(f(input.x))", FALLS),
        ("not f(user)", FALLS),
        ("not input.a[lower(input.x)]", FALLS),
        ("not input.a[input.x]", FALLS),
        ('not {"k": input.x} == input.z', FALLS),
        ('not lower(input.x) in {"a"}', FALLS),
        ("not 1 in input.x", FALLS),
        ('not f("a" == input.x)', FALLS),
        ('not f(input.x == "a")', FALLS),
        ("not f(input.s == `é`)", HOLDS),
        ("not [lower(input.x)]", FALLS),
        ("not input.x + 1 == 2", FALLS),
        ("not input.x > 1", FALLS),
        ("not input.x != 1", FALLS),
        ("not f(input.x).y", FALLS),
        ("not count(input.a) > 1", FALLS),
        ("not input.x", HOLDS),
        ("not input.x.y.z", HOLDS),
        ("not user", HOLDS),
        ("not user.name", HOLDS),
        ("not input.x == input.y", HOLDS),
        ("not input.a == 2", HOLDS),
        ("not input.a > 1", HOLDS),
        ('not startswith(input.s, "x")', HOLDS),
        ("not [1 | lower(input.x)] == [2]", HOLDS),
    ],
)
def test_as_in_opa(body: str, wanted: object) -> None:
    """In braces, without them, and in a comprehension."""
    definitions = "f(x) := x\nuser := input.user\n"
    holds = wanted == HOLDS
    for text, expected in (
        (f"value := 1 if {{ {body} }}", wanted),
        (f"value := 1 if {body}", wanted),
        (f"value := 0 if false else := 1 if {body}", wanted),
        (f"value := [x | some x in [1, 2]; {body}]", [[1, 2] if holds else []]),
        (f"value := 1 if every x in [1] {{ x == 1; {body} }}", wanted),
    ):
        module = Module("p.rego", f"package p\n{text}\n{definitions}")
        engine = Interpreter(Bundle((module,), {}, (), ""), [DECISION], lambda _: None)
        machine = Machine(engine.trees, [DECISION], engine.read_data)
        document = json.dumps({"a": 1, "s": "ab"})
        for evaluate in (engine.evaluate, machine.evaluate):
            assert orjson.loads(evaluate(DECISION, document)) == expected, text


def test_modifiers_hold_for_what_is_taken_out() -> None:
    text = 'package p\n\nvalue := 1 if {\n  not startswith(input.x, "b") with input as {"x": "ab"}\n}\n'
    engine = Interpreter(Bundle((Module("p.rego", text),), {}, (), ""), [DECISION], lambda _: None)
    assert orjson.loads(engine.evaluate(DECISION, "{}")) == HOLDS


def test_lines_stay_where_they_are() -> None:
    text = (
        "package p\n\nvalue if {\n  not startswith(\n    lower(input.a), # why\n"
        '    concat("", [x |\n      some x in ["é"]\n      not endswith(input.b, x)\n    ]),\n  )\n  input.c\n}\n'
        "other if not count(input.x) > 1\n"
    )
    (module,) = ready_modules([Module("p.rego", text)])
    assert module.text != text
    for line, (before, after) in enumerate(zip(text.splitlines(), module.text.splitlines(), strict=True)):
        assert ("input.c" in before) == ("input.c" in after), line
        assert before.startswith("other") == after.startswith("other"), line
    Interpreter(Bundle((module,), {}, (), ""), [DECISION], lambda _: None)


def test_what_needs_nothing_stays_as_it_is() -> None:
    text = "package p\n\nvalue if {\n  not input.x\n  not input.y == 1\n  not f(1)\n}\n\nf(x) if x\n"
    (module,) = ready_modules([Module("p.rego", text)])
    assert module.text == text
